# Start ashore offline, ask it with nothing but bash, and stop it.   sh ask.sh PREFIX MODEL [BEFORE]
set -eu
log=/tmp/ashore.log
$3 "$1/bin/ashore" up --offline "$2" >$log 2>&1 &
pid=$!
ready() {
    bash -c 'exec 3<>/dev/tcp/127.0.0.1/8080 && printf "GET /readyz HTTP/1.0\r\nHost: x\r\n\r\n" >&3 && head -1 <&3' 2>/dev/null |
        grep -q ' 200'
}
until ready; do
    kill -0 $pid 2>/dev/null || { cat $log; exit 8; }
    sleep 0.2
done
key=$(cat "${ASHORE_HOME:-$HOME/.ashore}/first-key")
body="{\"model\":\"$2\",\"messages\":[{\"role\":\"user\",\"content\":\"What is the capital of France?\"}],\"temperature\":0,\"max_tokens\":32}"
printf 'POST /v1/chat/completions HTTP/1.0\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nContent-Length: %s\r\n\r\n%s' \
    "$key" "${#body}" "$body" >/tmp/request
bash -c 'exec 3<>/dev/tcp/127.0.0.1/8080 && cat /tmp/request >&3 && cat <&3' | tail -1
echo
kill -TERM $pid
wait $pid
