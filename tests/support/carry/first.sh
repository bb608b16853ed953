# In the tree: install from the stick, start, ask, stop, and say what each took.   sh first.sh PROOF MODEL [BEFORE]
set -eu
for name in python3 python git make cc gcc curl wget pip xz; do
    ! command -v "$name" >/dev/null || { echo "$name is there"; exit 9; }
done
now() { date +%s; }
began=$(now)
sh /stick/install.sh $1
installed=$(now)
echo "took $((installed - began)) s to install"
sh /rig/ask.sh /opt/ashore "$2" "${3:-}"
echo "took $(($(now) - installed)) s to start, answer and stop"
