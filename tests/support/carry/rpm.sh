# In the tree: dnf takes the rpms from the signed folder of the stick; changed, upgraded, downgraded in vain and removed.
set -eu
own=$(mktemp -d)
rpm() { command rpm --force-debian "$@"; }
dnf() { command dnf -qy --setopt=reposdir=$own/repos --setopt=module_platform_id=platform:el9 --releasever=9 "$@"; }
cat >$own/folder.repo <<'END'
[ashore]
name = ashore
baseurl = file:///stick/packages
repo_gpgcheck = 1
gpgcheck = 0
gpgkey = file:///rig/release.asc
END
mkdir -p $own/repos $own/changed
cp -R /stick/packages/repodata $own/changed
sed -i 's/<revision>/<revision>1/' $own/changed/repodata/repomd.xml
sed "s|/stick/packages|$own/changed|" $own/folder.repo >$own/repos/ashore.repo
! dnf install ashore && echo "changed list refused"
cp $own/folder.repo $own/repos/ashore.repo
dnf install ashore && echo "dnf took it"
[ -z "$(rpm -q --requires ashore | grep -v '^rpmlib(')" ] && echo "wants nothing"
id ashore >/dev/null && stat -c '%a %U' /var/lib/ashore | grep -qx '700 ashore' && echo "user and home"
stat -c '%a %U:%G' /etc/ashore/ashore.toml | grep -qx '640 root:ashore' && echo "config owned"
[ -z "$(rpm -V ashore)" ] && echo "nothing changed"
dnf install ashore-model-smollm2-int8
models() { runuser -u ashore -- env ASHORE_HOME=/var/lib/ashore ashore model list | grep -q smollm2; }
models && echo "model imported"
echo '# mine' >>/etc/ashore/ashore.toml
rpm -U /rig/ashore-9*.rpm && rpm -q ashore | grep -q ashore-9 && models && echo upgraded
grep -qx '# mine' /etc/ashore/ashore.toml && echo "config kept"
! rpm -U /stick/packages/ashore-[0-9]*.rpm && rpm -q ashore | grep -q ashore-9 && echo "older refused"
echo evil >>/opt/ashore/lib/start.py
! rpm -V ashore >/tmp/changed
grep -q lib/start.py /tmp/changed && echo "change found"
rpm -e ashore-model-smollm2-int8 && rpm -e ashore && grep -qx '# mine' /etc/ashore/ashore.toml.rpmsave && echo removed
[ -d /var/lib/ashore/store ] && id ashore >/dev/null && [ ! -e /opt/ashore ] && echo "home stays"
