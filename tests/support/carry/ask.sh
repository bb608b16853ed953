# Start ashore offline, ask it with nothing but bash, and stop it.   sh ask.sh PREFIX MODEL [BEFORE]
# $CONFIG may be an ashore.toml that says how it is served.
set -eu
log=$HOME/ashore.log
[ -n "${CONFIG:-}" ] && from="--config $CONFIG" || from=$2
${3:-} "$1/bin/ashore" up --offline $from >"$log" 2>&1 &
pid=$!
ready() {
    bash -c 'exec 3<>/dev/tcp/127.0.0.1/8080 && printf "GET /readyz HTTP/1.0\r\nHost: x\r\n\r\n" >&3 && head -1 <&3' 2>/dev/null |
        grep -q ' 200'
}
until ready; do
    kill -0 $pid 2>/dev/null || { cat "$log"; exit 8; }
    sleep 0.2
done
key=$(cat "${ASHORE_HOME:-$HOME/.ashore}/first-key")
body="{\"model\":\"$2\",\"messages\":[{\"role\":\"user\",\"content\":\"What is the capital of France?\"}],\"temperature\":0,\"max_tokens\":32}"
printf 'POST /v1/chat/completions HTTP/1.0\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nContent-Length: %s\r\n\r\n%s' \
    "$key" "${#body}" "$body" >"$HOME/request"
bash -c 'exec 3<>/dev/tcp/127.0.0.1/8080 && cat "$HOME/request" >&3 && cat <&3' | tail -1
echo
kill -TERM $pid
wait $pid
