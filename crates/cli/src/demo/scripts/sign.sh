# Gets two requests signed by the run, $1 being their URL: sends one, and leaves the other in later.json.
sign() {
  curl -sS -H "Authorization: Bearer $DAYFLY_TOKEN_SECRET" \
    -d '{"resource":"'"$2"'","method":"'"$3"'","url":"'"$1"'"}' "$DAYFLY_TOKEN_URL"
}
header() { sed -e 's/.*"'"$1"'":"\([^"]*\)".*/'"$1"': \1/'; }

now=$(sign "$1" artifacts GET)
sign "$1" artifacts GET >later.json
curl -sS -o answer -w 'answered %{http_code}\n' -H "$(printf %s "$now" | header Authorization)" \
  -H "$(printf %s "$now" | header DPoP)" "$1"
