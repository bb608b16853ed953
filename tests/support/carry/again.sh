# In the tree: install, then check and install what comes after it.   sh again.sh PROOF
set -eu
cp -R /stick /root/next
sh /stick/install.sh $1 >/dev/null
/opt/ashore/bin/ashore bundle verify /root/next && echo verified
touch /root/.ashore/kept
/opt/ashore/bin/ashore model export smollm2@int8 /root/one.tar >/dev/null
elsewhere() { env ASHORE_HOME=/root/other "$@"; }
elsewhere /opt/ashore/bin/ashore model import /root/one.tar >/dev/null
elsewhere sh /rig/ask.sh /opt/ashore smollm2 | grep -q Paris && echo "exported, imported elsewhere, asked"
sh /root/next/install.sh --no-models >/dev/null && echo upgraded
sed -i 's/ [0-9]*$/ 9999999999/' /opt/ashore/RELEASE
sh /root/next/install.sh --no-models 2>&1 | grep -q 'older than' && echo "older refused"
sh /root/next/install.sh --no-models --older >/dev/null && echo "older taken"
echo evil >>/root/next/models/minilm.tar
sh /root/next/install.sh 2>&1 | grep -q 'not what was signed' && echo "changed refused"
(cd /root/next && { head -1 SHA256SUMS && sha256sum models/*; } >list && mv list SHA256SUMS)
sh /root/next/install.sh 2>&1 | grep -q 'does not know who made this stick' && echo "strange refused"
/opt/ashore/bin/ashore --version && [ -f /root/.ashore/kept ] && echo kept
