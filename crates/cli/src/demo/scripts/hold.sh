# Takes its token, $1 being its name, says that it is there, and waits until it may go on.
dayfly token >"$1.token"
echo "$1 is in, as $DAYFLY_CLIENT"
n=0
while [ ! -e "$1.go" ] && [ "$n" -lt 600 ]; do n=$((n + 1)); sleep 0.05; done
