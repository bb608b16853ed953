#!/bin/sh
# Before files are removed: dpkg says `remove`, rpm 0; an upgrade says something else.
set -e
case $1 in
    remove | 0) [ ! -d /run/systemd/system ] || systemctl disable --now ashore.service ;;
esac
