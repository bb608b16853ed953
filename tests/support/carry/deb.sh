# In the tree: the packages of the stick are installed, changed, installed over, removed and purged.
set -eu
export DEBIAN_FRONTEND=noninteractive
dpkg -i /stick/packages/ashore_*.deb
id ashore >/dev/null && stat -c '%a %U' /var/lib/ashore | grep -qx '700 ashore' && echo "user and home"
stat -c '%a %U:%G' /etc/ashore/ashore.toml | grep -qx '640 root:ashore' && echo "config owned"
[ -z "$(dpkg -V ashore)" ] && echo "nothing changed"
dpkg -i /stick/packages/ashore-model-smollm2-int8_*.deb
runuser -u ashore -- env ASHORE_HOME=/var/lib/ashore ashore model list | grep -q smollm2 && echo "model imported"
echo '# mine' >>/etc/ashore/ashore.toml
dpkg -i /stick/packages/ashore_*.deb && grep -qx '# mine' /etc/ashore/ashore.toml && echo "config kept"
echo evil >>/opt/ashore/lib/start.py
dpkg -V ashore | grep -q lib/start.py && echo "change found"
dpkg -r ashore-model-smollm2-int8 && dpkg -r ashore && [ -f /etc/ashore/ashore.toml ] && echo removed
dpkg -P ashore && [ ! -e /etc/ashore/ashore.toml ] && [ -d /var/lib/ashore/store ] && [ ! -e /opt/ashore ] && echo "purged, home stays"
