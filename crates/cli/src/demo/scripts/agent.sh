# An agent: it hands parts of its access to three helpers, each with a key of its own, and stays until it may go.
dayfly delegate --scope agent:read -- sh hold.sh reader &
dayfly delegate --scope 'agent:read agent:publish' -- sh editor.sh &
dayfly delegate --scope agent:publish -- sh hold.sh writer &
sh hold.sh agent
wait
