#!/bin/sh
# Install ashore and its models from this stick, on a machine with nothing but Linux: no network, no Python.
#   sh install.sh [--sums SHA256 | --key FILE | --unchecked] [--to DIRECTORY] [--older] [--no-models]
# Default directory: /opt/ashore for root, else $HOME/ashore. Models go into $ASHORE_HOME (default: $HOME/.ashore).
# Order: copy to a directory that only this user writes, check the copy, unpack the copy. May be run again.
set -eu
umask 022
export LC_ALL=C
fail() {
    echo "error: $1" >&2
    [ -z "${2:-}" ] || echo "hint: $2" >&2
    exit 4
}
here=$(CDPATH='' cd "$(dirname "$0")" && pwd -P)
target="" sums="" key="" unchecked="" older="" models=yes
[ "$(id -u)" = 0 ] && root=yes || root=""
while [ $# -gt 0 ]; do
    case $1 in
        --to | --sums | --key)
            [ $# -ge 2 ] || fail "$1 needs a value"
            case $1 in --to) target=$2 ;; --sums) sums=$2 ;; *) key=$2 ;; esac
            shift
            ;;
        --unchecked) unchecked=yes ;;
        --older) older=yes ;;
        --no-models) models="" ;;
        *) fail "unknown option $1" "see the head of $0" ;;
    esac
    shift
done
[ -n "$target" ] || { [ -n "$root" ] && target=/opt/ashore || target=$HOME/ashore; }
case $target in /*) ;; *) target=$PWD/$target ;; esac
parent=$(dirname "$target")
mkdir -p "$parent"
parent=$(CDPATH='' cd "$parent" && pwd -P)
target=$parent/$(basename "$target")
[ ! -L "$target" ] || fail "$target is a link" "give the directory that it points to, with --to"
if [ -e "$target" ] && [ ! -f "$target/RELEASE" ] && [ -n "$(ls -A "$target")" ]; then
    fail "$target is there and is not an ashore" "give another directory with --to, or move it away"
fi
if [ -n "$root" ]; then # who may write what root installs becomes root
    at=$target
    [ -e "$at" ] || at=$parent
    while :; do
        [ -z "$(find "$at" -prune \
            \( ! -user 0 -o -perm -0002 ! -perm -1000 -o -perm -0020 ! -perm -1000 ! -group 0 \))" ] ||
            fail "$at can be written by others than root" "chown root and chmod go-w it, or choose another place with --to"
        [ "$at" != / ] || break
        at=$(dirname "$at")
    done
fi

work=$(mktemp -d "$parent/.ashore-install.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 4' HUP INT TERM
chmod 0700 "$work"
copy=$work/stick
mkdir "$copy"
take() { # a plain file of the stick, into the copy
    case $1 in */*) mkdir -p "$copy/$(dirname "$1")" ;; esac
    [ -f "$here/$1" ] && [ ! -L "$here/$1" ] || fail "the stick has no file $1" "copy the stick again"
    cp "$here/$1" "$copy/$1"
}
take SHA256SUMS
for name in SHA256SUMS.sig SHA256SUMS.asc; do
    [ ! -f "$here/$name" ] || take $name
done

# Who made this list?
if [ -n "$unchecked" ]; then
    echo "warning: nothing shows who made this stick: --unchecked" >&2
elif [ -n "$sums" ]; then
    seen=$(sha256sum "$copy/SHA256SUMS" | cut -d' ' -f1)
    [ "$seen" = "$(printf '%s' "$sums" | tr 'A-F' 'a-f' | tr -d ' ')" ] ||
        fail "the SHA-256 of SHA256SUMS is $seen, not $sums" "this is not the stick that the number was told for"
elif [ -n "$key" ]; then
    [ -f "$key" ] || fail "there is no key $key"
    case $key in
        "$here"/*) fail "$key is on the stick itself" "take the key from where the stick did not pass" ;;
        *.pub)
            [ -f "$copy/SHA256SUMS.sig" ] || fail "the stick has no SHA256SUMS.sig"
            printf 'ashore %s\n' "$(cut -d' ' -f1,2 "$key")" >"$work/signers"
            ssh-keygen -q -Y verify -f "$work/signers" -I ashore -n ashore-bundle -s "$copy/SHA256SUMS.sig" \
                <"$copy/SHA256SUMS" >/dev/null || fail "the key $key did not sign this stick"
            ;;
        *)
            [ -f "$copy/SHA256SUMS.asc" ] || fail "the stick has no SHA256SUMS.asc"
            case $key in /*) ;; *) key=$PWD/$key ;; esac # a name without a slash would be looked up in ~/.gnupg
            gpgv -q --keyring "$key" "$copy/SHA256SUMS.asc" "$copy/SHA256SUMS" 2>"$work/said" ||
                fail "the key $key did not sign this stick: $(tail -1 "$work/said")"
            ;;
    esac
elif [ -f "$target/release.pub" ]; then
    "$target/bin/ashore" bundle verify "$copy" --list-only ${older:+--older} ||
        fail "the ashore in $target does not know who made this stick" "see above; --sums or --key name another proof"
else
    fail "nothing was given that shows who made this stick" "see README.txt: --sums 64-DIGITS, or --key FILE"
fi

# Is it the whole of what was signed, and no more? Names have none of the characters that a shell splits or expands.
release=$(sed -n '1s/^# \(ashore [0-9][A-Za-z0-9.+]* linux-[a-z0-9_]* [0-9]*\)$/\1/p' "$copy/SHA256SUMS")
[ -n "$release" ] || fail "SHA256SUMS does not say which release it is" "copy the stick again"
names=$(sed -n 's|^[0-9a-f]\{64\}  \([A-Za-z0-9][A-Za-z0-9._+/-]*\)$|\1|p' "$copy/SHA256SUMS")
[ "$(printf '%s\n' "$names" | wc -l)" = "$(($(wc -l <"$copy/SHA256SUMS") - 1))" ] || fail "SHA256SUMS has a line that is not one"
case /$names/ in */../* | */./*) fail "SHA256SUMS names a file outside of the stick" ;; esac
echo "copying and checking $release"
for name in $names; do take "$name"; done
(cd "$copy" && sha256sum --check --strict --quiet SHA256SUMS) || fail "the stick is not what was signed" "copy it again"

# Does it fit here?
set -- $release
version=$2 system=$3 made=$4
[ "$system" = "linux-$(uname -m)" ] || fail "this stick is for $system; this machine is linux-$(uname -m)"
if [ -f "$target/RELEASE" ] && [ -z "$older" ]; then
    read -r _ was _ since <"$target/RELEASE"
    [ "$made" -ge "$since" ] || fail "$version is older than $was, which is installed in $target" "--older installs it all the same"
fi
tar=$copy/ashore-$version-$system.tar.gz
[ -f "$tar" ] || fail "the stick has no $(basename "$tar")"
# Plain files and directories below ashore/ alone: no link, device or privileged file, and no way out.
tar --list --verbose --numeric-owner --quoting-style=escape -zf "$tar" >"$work/listed" 2>"$work/said" ||
    fail "the tar cannot be read: $(tail -1 "$work/said")" "copy the stick again"
awk '{ name = $0; sub(/^[^ ]+ +[^ ]+ +[^ ]+ +[^ ]+ +[^ ]+ +/, "", name) }
    $1 !~ /^[-d][-rwx]+$/ || name !~ /^ashore\// || name ~ /(^|\/)\.\.(\/|$)/ || name ~ /\\/ { print name; bad = 1 }
    END { exit bad || NR == 0 }' "$work/listed" >"$work/odd" || fail "the tar has what an ashore has not: $(head -3 "$work/odd")"

echo "unpacking into $target"
tar --extract --gzip --file "$tar" --directory "$work" --no-same-owner --no-same-permissions
new=$work/ashore
[ -z "$(find "$new" \( -perm -4000 -o -perm -2000 -o ! -type f ! -type d \))" ] || fail "the tar has what an ashore has not"
cp "$copy/sbom.cdx.json" "$new/share/"
sh "$new/lib/settle.sh" "$target"
[ ! -e "$target" ] || mv "$target" "$work/before"
mv "$new" "$target" || { [ ! -e "$work/before" ] || mv "$work/before" "$target"; fail "$target could not be put in place"; }
! command -v restorecon >/dev/null 2>&1 || restorecon -R "$target" || true
if [ -n "$models" ]; then
    for name in $names; do
        case $name in models/*.tar) "$target/bin/ashore" model import "$copy/$name" ;; esac
    done
fi
echo
echo "done. Start it with"
echo "  $target/bin/ashore up --offline"
echo "or, with the machine, as a service of systemd (a unit with its reasons; how to install it stands at its head):"
echo "  $target/bin/ashore deploy render systemd --offline"
