#!/bin/sh
# After files are removed. The home has keys and the audit log, which laws may want kept: a person deletes it.
set -e
case $1 in
    remove | purge | 0)
        [ ! -d /run/systemd/system ] || systemctl daemon-reload
        [ ! -d /var/lib/ashore ] || echo "ashore: /var/lib/ashore stays, with keys, models and the audit log"
        ;;
esac
