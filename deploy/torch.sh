#!/bin/sh
# torch is in no lock file: which build fits is for the machine to say. This script finds it and installs the extra [train].
#
#   torch.sh python               print the first Python for which pip has a build of torch at hand, without asking an index
#   torch.sh install VENV         install torch into VENV: the build at hand, else the one of the index (gigabytes with CUDA),
#                                 and the locked rest of [train] beside it
set -eu

at_hand() {
    "$1" -m pip install --dry-run --quiet --disable-pip-version-check --no-index --no-deps --ignore-installed 'torch>=2.9' \
        >/dev/null 2>&1
}

find_python() {
    for name in ${PYTHON:-} python3.14 python3.13 python3.12 python3.11 python3; do
        if "$name" -c 'import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && at_hand "$name"; then
            echo "$name"
            return
        fi
    done
    return 3
}

install() {
    python=$1/bin/python
    if ! "$python" -c 'import importlib.metadata as m; m.version("torch")' 2>/dev/null; then
        if at_hand "$python"; then
            sh deploy/install.sh "$1" --no-index --no-deps 'torch>=2.9'
        elif better=$(find_python); then
            echo "error: pip has torch at hand for $better, and $1 is $("$python" --version). Make it again with" >&2
            echo "  rm -rf $1 && make train" >&2
            exit 4
        else
            echo "no build of torch is at hand: taking the one of the package index" >&2
        fi
    fi
    # The second line brings what torch itself needs, which the lock leaves out with it.
    sh deploy/install.sh "$1" --no-deps --require-hashes -r requirements-train.lock
    sh deploy/install.sh "$1" 'torch>=2.9'
}

cd "$(dirname "$0")/.."
case ${1:-} in
    python) find_python ;;
    install) install "${2:?which virtual environment?}" ;;
    *) sed -n '2,7s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
esac
