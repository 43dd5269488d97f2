# A helper that hands a part of its part on.
dayfly delegate --scope agent:read -- sh hold.sh checker &
sh hold.sh editor
wait
