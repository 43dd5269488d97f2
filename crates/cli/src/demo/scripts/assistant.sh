# An assistant: it hands what it may read to a helper, and stays until it may go.
dayfly delegate --scope assistant:read -- sh searcher.sh &
sh hold.sh assistant
wait
