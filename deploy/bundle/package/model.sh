#!/bin/sh
# After the model's file is unpacked: into the store of the service's home.
set -e
case $1 in
    configure | 1 | 2) runuser -u ashore -- env ASHORE_HOME=/var/lib/ashore /opt/ashore/bin/ashore model import MODEL ;;
esac
