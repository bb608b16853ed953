#!/bin/sh
# Before files are unpacked, deb and rpm: the user that owns the configuration. dpkg says `upgrade OLD`, rpm 1 or 2.
set -e
getent group ashore >/dev/null || groupadd --system ashore
getent passwd ashore >/dev/null ||
    useradd --system --gid ashore --home-dir /var/lib/ashore --no-create-home --shell /usr/sbin/nologin ashore
if [ "$1" = upgrade ] && [ -n "${DPKG_MAINTSCRIPT_PACKAGE:-}" ] && dpkg --compare-versions "$2" gt VERSION; then
    echo "error: ashore $2 is installed, which is newer than VERSION; to go back remove it first" >&2
    exit 1
fi
