#!/bin/sh
# Install ashore and the demo model from this folder, with no network.
#   sh install.sh [FOLDER]     default: $HOME/ashore
# Models go into $ASHORE_HOME (default: $HOME/.ashore). May be run again: it installs over itself.
set -eu
here=$(CDPATH='' cd "$(dirname "$0")" && pwd)
target=${1:-$HOME/ashore}
for name in PYTHON SHA256SUMS; do
    [ -f "$here/$name" ] || { echo "error: the bundle has no file $name; copy it again" >&2; exit 4; }
done
wanted=$(cat "$here/PYTHON")
case $wanted in
    3.[0-9] | 3.[0-9][0-9]) ;;
    *) echo "error: the file PYTHON of this bundle is not a version of Python; copy the bundle again" >&2; exit 4 ;;
esac

python=""
for name in ${PYTHON:-} "python$wanted" python3; do
    if "$name" -I -c "import sys, venv, ensurepip; sys.exit('%d.%d' % sys.version_info[:2] != '$wanted')" 2>/dev/null; then
        python=$name
        break
    fi
done
if [ -z "$python" ]; then
    echo "error: this bundle needs Python $wanted with its venv module (Debian: python3 and python3-venv);" >&2
    echo "       give another one as PYTHON=/path/to/python$wanted, or make the bundle with the Python that is here" >&2
    exit 4
fi

echo "checking the files of this bundle against SHA256SUMS, whose own SHA-256 is"
"$python" -I - "$here" <<'CHECK' || exit 4
import hashlib, pathlib, re, sys

here = pathlib.Path(sys.argv[1])
sums = (here / "SHA256SUMS").read_bytes()
print(" ", hashlib.sha256(sums).hexdigest(), flush=True)
listed = dict(line.split("  ", 1)[::-1] for line in sums.decode().splitlines() if re.match("[0-9a-f]{64}  ", line))
there = {str(p.relative_to(here)) for p in here.rglob("*") if p.is_symlink() or not p.is_dir()} - {"SHA256SUMS"}
wrong = [f"not in SHA256SUMS: {name!a}" for name in sorted(there - listed.keys())]
wrong += [f"missing: {name}" for name in sorted(listed.keys() - there)]
for name in sorted(listed.keys() & there):
    with open(here / name, "rb") as file:
        if (here / name).is_symlink() or hashlib.file_digest(file, "sha256").hexdigest() != listed[name]:
            wrong.append(f"changed: {name}")
if wrong:
    sys.exit("error: the bundle is not what it was when it was made; copy it again\n  " + "\n  ".join(wrong[:20]))
CHECK
echo "compare it with the one that was printed where the bundle was made: who can change the files can change the list"
# Names of wheels and models have none of the characters that a shell splits or expands.
listed() { sed -n "s|^[0-9a-f]\{64\}  \($1/[A-Za-z0-9._+!-]*\.$2\)\$|\1|p" "$here/SHA256SUMS"; }

echo "installing into $target"
mkdir -p "$target"
"$python" -I -m venv "$target/venv"
set --
for wheel in $(listed wheels whl); do
    set -- "$@" "$here/$wheel"
done
"$target/venv/bin/python" -I -m pip install --disable-pip-version-check --no-input --quiet \
    --no-index --no-deps --force-reinstall "$@"
for model in $(listed models tar); do
    "$target/venv/bin/ashore" model import "$here/$model"
done
cp -R "$here/licences" "$here/sbom.cdx.json" "$target/"
echo
echo "done. Start it with"
echo "  $target/venv/bin/ashore up --offline"
echo "or, with the machine, as a service of systemd (a unit with its reasons; how to install it stands at its head):"
echo "  $target/venv/bin/ashore deploy render systemd --offline"
