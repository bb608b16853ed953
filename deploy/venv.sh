#!/bin/sh
# Make a virtual environment with the first Python that is new enough and can do it; otherwise say what installs one.
set -eu
target=$1
for name in ${PYTHON:-} python3.13 python3.12 python3.11 python3; do
    if "$name" -c 'import sys, ensurepip, venv; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))' 2>/dev/null; then
        echo "making $target with $("$name" --version 2>&1)"
        exec "$name" -m venv "$target"
    fi
done
echo "error: no Python 3.11 or newer with the venv module was found. Install it with" >&2
if command -v apt-get >/dev/null 2>&1; then
    echo "  sudo apt-get install -y python3 python3-venv" >&2
elif command -v dnf >/dev/null 2>&1; then
    echo "  sudo dnf install -y python3.12" >&2
elif command -v zypper >/dev/null 2>&1; then
    echo "  sudo zypper install -y python312" >&2
elif command -v apk >/dev/null 2>&1; then
    echo "  sudo apk add python3" >&2
elif command -v brew >/dev/null 2>&1; then
    echo "  brew install python@3.12" >&2
else
    echo "  (the package manager of this system) python3 and its venv module" >&2
fi
exit 4
