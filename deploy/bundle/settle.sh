#!/bin/sh
# Write the place where this tree lies (or FOLDER, where it will lie) into its Python: the kernel finds the loader by it.
#   sh settle.sh [FOLDER]
# May be run again. Needs no Python: some security policies forbid to call a loader directly.
set -eu
here=$(CDPATH='' cd "$(dirname "$0")/.." && pwd -P)
place=${1:-$here}
read -r at size <"$here/lib/room"
loader=$place/lib/ld.so
length=$(printf '%s' "$loader" | wc -c)
if [ "$length" -ge "$size" ]; then
    echo "error: the directory's name is too long: at most $((size - 12)) bytes; choose a shorter one" >&2
    exit 2
fi
cp "$here/bin/python" "$here/bin/python.new"
{
    printf '%s' "$loader"
    dd if=/dev/zero bs=1 count=$((size - length)) 2>/dev/null
} | dd of="$here/bin/python.new" bs=1 seek="$at" conv=notrunc 2>/dev/null
chmod 0755 "$here/bin/python.new"
mv "$here/bin/python.new" "$here/bin/python"
printf '%s\n' "$place" >"$here/lib/settled"
