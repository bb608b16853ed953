# Install a stick for arm64 and ask it, by qemu: the fake engine, and a model by llama.cpp. binfmt_misc is that of a user
# namespace alone (Linux 6.7 or newer): the machine's own stays as it is. The tree brings its own C library, so there is
# no arm64 system around it.
#   unshare --user --map-root-user --mount --pid --fork --net -- sh -eu arm.sh QEMU STICK RIG PYTHON SCRATCH GGUF
qemu=$1 stick=$2 rig=$3 python=$4 scratch=$5 gguf=$6
"$python" -c 'import sys; sys.path.insert(0, sys.argv[1]); from loopback import raise_loopback; raise_loopback()' "$rig"
mkdir -p "$scratch/binfmt" "$scratch/bin" "$scratch/home"
mount -t binfmt_misc binfmt_misc "$scratch/binfmt"
program='\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00'
mask='\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff'
printf '%s' ":arm64:M::$program:$mask:$qemu:F" >"$scratch/binfmt/register"
mount -t proc proc /proc
printf '#!/bin/sh\necho aarch64\n' >"$scratch/bin/uname" # as the machine would say
chmod 0755 "$scratch/bin/uname"
run() { env -i PATH="$scratch/bin:/usr/sbin:/usr/bin:/sbin:/bin" HOME="$scratch/home" "$@"; }
run sh "$stick/install.sh" --unchecked --to "$scratch/ashore" --no-models
run "$scratch/ashore/bin/python" -I "$rig/natives.py"
run sh "$rig/ask.sh" "$scratch/ashore" fake:echo
run "$scratch/ashore/bin/ashore" model import "$gguf"
printf '[[model]]\nname = "smollm2"\n[model.engine]\nkind = "llamacpp"\n' >"$scratch/home/ashore.toml"
run env CONFIG="$scratch/home/ashore.toml" sh "$rig/ask.sh" "$scratch/ashore" smollm2
