#!/bin/sh
# Install packages into a virtual environment by uv, which takes an eighth of pip's time, or by pip where uv fails.
#
#   install.sh VENV ARGUMENT...   the arguments are those of `pip install`, and of `uv pip install`
#
# uv is taken once, with the hash of its lock, into .cache. It goes by what pip was told of indexes and certificates.
set -eu
python=$1/bin/python
shift
root=$(dirname "$0")/..
uv=$root/.cache/installer/bin/uv

pip() { "$python" -m pip install --disable-pip-version-check --no-input --quiet "$@"; }

take_uv() {
    lock=$(mktemp)
    awk '/^uv==/ {on = 1} on {print} on && !/\\$/ {exit}' "$root/requirements-dev.lock" >"$lock"
    pip --require-hashes --no-deps --upgrade --target "${uv%/bin/uv}" -r "$lock" 2>/dev/null || { rm -f "$lock"; return 1; }
    rm -f "$lock"
}

by_uv() {
    "$uv" --version >/dev/null 2>&1 || take_uv || return
    told=$("$python" -m pip config list) || return
    for pair in index-url=UV_DEFAULT_INDEX extra-index-url=UV_INDEX find-links=UV_FIND_LINKS trusted-host=UV_INSECURE_HOST \
        cert=SSL_CERT_FILE client-cert=SSL_CLIENT_CERT proxy=ALL_PROXY; do
        value=$(printf '%s\n' "$told" | sed -n "s/^[^=]*\.${pair%=*}='\(.*\)'\$/\1/p" | head -1 | sed 's/\\n/ /g; s/^ *//')
        [ "$pair" != find-links=UV_FIND_LINKS ] || value=$(echo "$value" | tr ' ' ,)
        [ -z "$value" ] || export "${pair#*=}=$value"
    done
    ! printf '%s\n' "$told" | grep -q "\.no-index='[1ty]" || set -- --no-index "$@"
    [ -z "${PYTHONDONTWRITEBYTECODE:-}" ] || export UV_COMPILE_BYTECODE=1  # pip compiles; uv leaves it to the first start
    UV_INDEX_STRATEGY=unsafe-best-match UV_SYSTEM_CERTS=1 UV_NO_CONFIG=1 "$uv" pip install --quiet --python "$python" "$@"
}

by_uv "$@" || { echo "uv could not install it here: installing by pip" >&2; pip "$@"; }
