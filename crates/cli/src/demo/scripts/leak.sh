# Leaves its token where it should not, and waits until somebody has tried it.
dayfly token >leaked.token
echo leaked
n=0
while [ ! -e used ] && [ "$n" -lt 200 ]; do n=$((n + 1)); sleep 0.05; done
