# Publishes once more what went out broken. It does not know that somebody had to say yes to it.
printf 'the first release, repaired' >app-1.0.1.tgz
curl -sS -T app-1.0.1.tgz "${DAYFLY_ARTIFACTS_URL}octo-org/app/app-1.0.1.tgz"
