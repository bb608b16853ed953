#!/bin/sh
# After files are unpacked, deb and rpm. Starts nothing; restarts what runs.
set -e
install -d -m 0700 -o ashore -g ashore /var/lib/ashore
! command -v restorecon >/dev/null 2>&1 || restorecon -R /opt/ashore || true
if [ -d /run/systemd/system ]; then
    systemctl daemon-reload
    systemctl try-restart ashore.service
fi
