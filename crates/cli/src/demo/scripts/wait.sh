# Takes its token, says who it is, and waits: a job that is busy with something long.
dayfly token >held.token
echo "group $$"
sleep 60
