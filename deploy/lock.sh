#!/bin/sh
# Resolve pyproject.toml into hash-locked files for every platform. torch is never locked: it comes with the extra (deploy/torch.sh).
set -eu
compile() {
    "$uv" pip compile --universal --generate-hashes --python-version 3.11 --no-emit-index-url --no-header --quiet "$@"
}
uv=$1
without_torch=$(mktemp)
trap 'rm -f "$without_torch"' EXIT
echo 'torch; python_version < "3"' >"$without_torch"
compile --extra build --extra cpu pyproject.toml -o requirements.lock
compile --extra build --extra cpu --extra front -c requirements.lock pyproject.toml -o requirements-front.lock
compile --extra build --extra cpu --extra dev -c requirements-front.lock pyproject.toml -o requirements-dev.lock
compile --extra build --extra cpu --extra train --extra bench -c requirements-dev.lock --override "$without_torch" pyproject.toml -o requirements-train.lock
if grep -iE '^(torch|nvidia-)' requirements*.lock; then
    echo "error: torch came into a lock file; see above which package asks for it" >&2
    exit 2
fi
python=$(dirname "$uv")/python
"$python" deploy/check_floor.py "$uv" requirements.lock
printf 'createrepo-c\nnfpm\npatchelf\n' | compile - -o deploy/bundle/tools.lock
"$python" deploy/bundle/debs.py
