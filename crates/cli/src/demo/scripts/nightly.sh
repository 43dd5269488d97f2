# Adds up the day's orders and writes one result set. Then it tries what it was not given.
total=0
orders=$(curl -sS "${DAYFLY_QUEUE_URL}orders")
while read -r number amount; do total=$((total + amount)); done <<END
$orders
END
echo "total $total"
curl -sS -X PUT --data-binary "$total" "${DAYFLY_RESULTS_URL}daily/today"
curl -sS -w 'answered %{http_code}\n' "${DAYFLY_QUEUE_URL}payroll"
# Two requests to results, $1, that the run signs now and that are sent when it is over.
curl -sS -H "Authorization: Bearer $DAYFLY_TOKEN_SECRET" \
  -d '{"resource":"results","method":"PUT","url":"'"$1"'/daily/late"}' "$DAYFLY_TOKEN_URL" >late.json
curl -sS -H "Authorization: Bearer $DAYFLY_TOKEN_SECRET" \
  -d '{"resource":"results","method":"PUT","url":"'"$1"'/daily/later"}' "$DAYFLY_TOKEN_URL" >later.json
