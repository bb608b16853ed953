#!/bin/sh
# Install ashore and the demo model from this folder, with no network.
#   sh install.sh [FOLDER]     default: $HOME/ashore
# Models go into $ASHORE_HOME (default: $HOME/.ashore). May be run again: it installs over itself.
set -eu
here=$(CDPATH='' cd "$(dirname "$0")" && pwd)
target=${1:-$HOME/ashore}
wanted=$(cat "$here/PYTHON")

if command -v sha256sum >/dev/null 2>&1; then
    echo "checking the files of this bundle"
    (cd "$here" && sha256sum --check --quiet SHA256SUMS) || {
        echo "error: the bundle is not what it was when it was made; copy it again" >&2
        exit 4
    }
fi

python=""
for name in ${PYTHON:-} "python$wanted" python3; do
    if "$name" -c "import sys, venv, ensurepip; sys.exit('%d.%d' % sys.version_info[:2] != '$wanted')" 2>/dev/null; then
        python=$name
        break
    fi
done
if [ -z "$python" ]; then
    echo "error: this bundle needs Python $wanted with its venv module (Debian: python3 and python3-venv);" >&2
    echo "       give another one as PYTHON=/path/to/python$wanted, or make the bundle with the Python that is here" >&2
    exit 4
fi

echo "installing into $target"
mkdir -p "$target"
"$python" -m venv "$target/venv"
"$target/venv/bin/python" -m pip install --disable-pip-version-check --no-input --quiet \
    --no-index --no-deps --force-reinstall "$here"/wheels/*.whl
for model in "$here"/models/*.tar; do
    "$target/venv/bin/ashore" model import "$model"
done
cp -R "$here/licences" "$here/sbom.cdx.json" "$target/"
echo
echo "done. Start it with"
echo "  $target/venv/bin/ashore up --offline"
echo "or, with the machine, as a service of systemd (a unit with its reasons; how to install it stands at its head):"
echo "  $target/venv/bin/ashore deploy render systemd --offline"
