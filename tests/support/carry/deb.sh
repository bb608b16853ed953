# In the tree: apt takes the packages from the signed folder of the stick; changed, upgraded, downgraded in vain, removed
# and purged.
set -eu
export DEBIAN_FRONTEND=noninteractive
rm -f /etc/apt/sources.list.d/*
echo "deb [signed-by=/rig/release.gpg] file:/stick/packages ./" >/etc/apt/sources.list
apt-get update --error-on=any && apt-get install -y ashore && echo "apt took it"
id ashore >/dev/null && stat -c '%a %U' /var/lib/ashore | grep -qx '700 ashore' && echo "user and home"
stat -c '%a %U:%G' /etc/ashore/ashore.toml | grep -qx '640 root:ashore' && echo "config owned"
[ -z "$(dpkg -V ashore)" ] && echo "nothing changed"
apt-get install -y ashore-model-smollm2-int8
models() { runuser -u ashore -- env ASHORE_HOME=/var/lib/ashore ashore model list | grep -q smollm2; }
models && echo "model imported"
echo '# mine' >>/etc/ashore/ashore.toml
dpkg -i /rig/ashore_9*.deb && dpkg -s ashore | grep -q '^Version: 9' && models && echo upgraded
grep -qx '# mine' /etc/ashore/ashore.toml && echo "config kept"
! dpkg -i /stick/packages/ashore_*.deb && dpkg -s ashore | grep -q '^Version: 9' && models && echo "older refused"
[ -z "$(dpkg -V ashore | grep -v ' c /etc/')" ] && echo "nothing changed by it"
echo evil >>/opt/ashore/lib/start.py
dpkg -V ashore | grep -q lib/start.py && echo "change found"
dpkg -r ashore-model-smollm2-int8 && dpkg -r ashore && [ -f /etc/ashore/ashore.toml ] && echo removed
dpkg -P ashore && [ ! -e /etc/ashore/ashore.toml ] && [ -d /var/lib/ashore/store ] && [ ! -e /opt/ashore ] && echo "purged, home stays"
