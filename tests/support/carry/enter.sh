# Run a command in a tree of Debian, below a layer that takes what is written: own mounts, processes and loopback alone.
#   unshare --mount --pid --fork --net --uts -- sh -eu enter.sh TREE OVER STICK RIG PYTHON COMMAND...
tree=$1 over=$2 stick=$3 rig=$4 python=$5
shift 5
"$python" -c 'import sys; sys.path.insert(0, sys.argv[1]); from loopback import raise_loopback; raise_loopback()' "$rig"
mkdir -p "$over/up" "$over/work" "$over/root"
root=$over/root
mount -t overlay overlay -o "lowerdir=$tree,upperdir=$over/up,workdir=$over/work" "$root"
mount -t proc proc "$root/proc"
mount -t tmpfs -o mode=0755 tmpfs "$root/dev"
mkdir -p "$root/dev/shm" "$root/stick" "$root/rig"
mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"
for name in null zero random urandom tty full; do
    : >"$root/dev/$name"
    mount --bind "/dev/$name" "$root/dev/$name"
done
ln -s /proc/self/fd "$root/dev/fd"
mount --bind "$stick" "$root/stick"
mount -o remount,bind,ro "$root/stick"
mount --bind "$rig" "$root/rig"
exec chroot "$root" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root "$@"
