#!/bin/sh
# Start ashore with the Python of its own directory, whatever lies on this machine.
here=$(dirname "$(readlink -f "$0")")
here=${here%/bin}
read -r settled <"$here/lib/settled"
if ! [ -f "$settled/lib/ld.so" ]; then
    echo "error: this ashore was settled at $settled and lies at $here now; run once: sh $here/lib/settle.sh" >&2
    exit 4
fi
[ -d /usr/share/zoneinfo ] || export TZDIR="$here/lib/python3.13/dist-packages/tzdata/zoneinfo"
exec "$here/bin/python" -I "$here/lib/start.py" "$@"
