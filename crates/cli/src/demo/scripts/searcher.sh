# A helper that hands on.
dayfly delegate --scope assistant:read -- sh hold.sh summary &
sh hold.sh searcher
wait
