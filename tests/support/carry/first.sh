# In the tree: install from the stick, start, ask, stop, and say what each took.   sh first.sh PROOF MODEL [BEFORE]
# Root has it in /opt/ashore, another user in $HOME/ashore.
set -eu
for name in python3 python git make cc gcc curl wget pip xz; do
    ! command -v "$name" >/dev/null || { echo "$name is there"; exit 9; }
done
now() { date +%s; }
began=$(now)
sh /stick/install.sh $1
installed=$(now)
echo "took $((installed - began)) s to install"
[ "$(id -u)" = 0 ] && at=/opt/ashore || at=$HOME/ashore
sh /rig/ask.sh "$at" "$2" "${3:-}"
echo "took $(($(now) - installed)) s to start, answer and stop"
