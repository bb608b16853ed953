#!/bin/sh
# Make an environment with Ray and this checkout, for the tests of engines on Ray Serve. Ray is in no lock file: only machines that it
# runs on need it, by the extra [fleet].
#
#   ray.sh install FOLDER         make the environment where it is not there yet, and print the path of its Python
set -eu
VERSION=2.60.0

install() {
    folder=$1-$VERSION
    if [ ! -e "$folder/.done" ]; then
        echo "installing Ray $VERSION into $folder (once; 470 MB)" >&2
        rm -rf "$folder"
        .venv/bin/python -m venv "$folder"
        "$folder/bin/python" -m pip install --quiet --disable-pip-version-check --no-input "ray[serve]==$VERSION" >&2
        # ashore and what it needs, as in .venv; what both have is Ray's.
        packages=$("$folder/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
        .venv/bin/python -c 'import sys; print(*sys.argv[1:], *(p for p in sys.path if p.endswith("-packages")), sep="\n")' "$PWD/src" \
            > "$packages/ashore.pth"
        touch "$folder/.done"
    fi
    echo "$folder/bin/python"
}

cd "$(dirname "$0")/.."
case ${1:-} in
    install) install "${2:?which folder?}" ;;
    *) sed -n '2,5s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
esac
