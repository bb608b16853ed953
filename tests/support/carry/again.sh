# In the tree: install, then check and install what comes after it.   sh again.sh PROOF
set -eu
own=$(mktemp -d)
cp -R /stick $own/next
sh /stick/install.sh $1 >/dev/null
/opt/ashore/bin/ashore bundle verify $own/next && echo verified
touch $HOME/.ashore/kept
/opt/ashore/bin/ashore model export smollm2@int8 $own/one.tar >/dev/null
elsewhere() { env ASHORE_HOME=$own/other "$@"; }
elsewhere /opt/ashore/bin/ashore model import $own/one.tar >/dev/null
elsewhere sh /rig/ask.sh /opt/ashore smollm2 | grep -q Paris && echo "exported, imported elsewhere, asked"
sh $own/next/install.sh --no-models >/dev/null && echo upgraded
sed -i 's/ [0-9]*$/ 9999999999/' /opt/ashore/RELEASE
sh $own/next/install.sh --no-models 2>&1 | grep -q 'older than' && echo "older refused"
sh $own/next/install.sh --no-models --older >/dev/null && echo "older taken"
echo evil >>$own/next/models/minilm.tar
sh $own/next/install.sh 2>&1 | grep -q 'not what was signed' && echo "changed refused"
(cd $own/next && { head -1 SHA256SUMS && sha256sum models/*; } >list && mv list SHA256SUMS)
sh $own/next/install.sh 2>&1 | grep -q 'does not know who made this stick' && echo "strange refused"
/opt/ashore/bin/ashore --version && [ -f $HOME/.ashore/kept ] && echo kept
