#!/bin/sh
# Print the folder with `prometheus` and `promtool`: that of the system, or of Debian's packages unpacked into FOLDER.
#   prometheus.sh FOLDER
set -eu
folder=${1:?which folder?}
if command -v prometheus >/dev/null 2>&1 && command -v promtool >/dev/null 2>&1; then
    dirname "$(command -v prometheus)"
    exit
fi
if [ ! -x "$folder/usr/bin/promtool" ]; then
    command -v apt-get >/dev/null 2>&1 || {
        echo "error: install prometheus and promtool; only Debian's packages are fetched by themselves" >&2
        exit 4
    }
    mkdir -p "$folder"
    (cd "$folder" && apt-get download prometheus promtool >/dev/null 2>&1 || {
        apt-get update >/dev/null && apt-get download prometheus promtool >/dev/null
    })
    for package in "$folder"/*.deb; do dpkg-deb -x "$package" "$folder"; done
fi
echo "$folder/usr/bin"
