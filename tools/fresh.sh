#!/usr/bin/env bash
# The README's two commands on a machine that has nothing: a bare Debian 12 (git and a shell) in a
# folder of its own, made by debootstrap, into which this tree is cloned. A plain user who may use sudo
# runs both, then root does in the same clone, so that it is built once; what root lacks then, root
# installs, and of the tests root runs those that run the program. Without a CUDA toolkit. To be run as root, on Debian or a kin of it.
#
#   tools/fresh.sh [FOLDER]   FOLDER: where the machine is made (default: a temporary one); a bare
#                             machine of an earlier run in it is taken again. It is kept if named.
set -euo pipefail
cd "$(dirname "$0")/.."

die() { echo "fresh: $*" >&2; exit 1; }
[ "$(id -u)" -eq 0 ] || die "a machine in a folder is made by root alone"
command -v debootstrap >/dev/null || die "no debootstrap; apt-get install debootstrap"
[ -z "$(git status --porcelain)" ] || echo "fresh: what is not committed is not cloned" >&2

keep=${1:-}
machine=${keep:-$(mktemp -d)}
machine=$(realpath -m "$machine")
mkdir -p "$machine"
chmod 755 "$machine"  # It is the plain user's root folder, and mktemp closes what it makes to others.
mounted=()
leave() {
  local at
  for at in "${mounted[@]}"; do umount -l "$at"; done
  [ -n "$keep" ] || rm -rf --one-file-system "$machine"
}
trap leave EXIT

if [ ! -e "$machine/bare" ]; then
  debootstrap --variant=minbase --include=git,ca-certificates,sudo bookworm "$machine" >"$machine.log" ||
    { tail -n 5 "$machine.log" >&2; die "debootstrap failed; its log is $machine.log"; }
  rm -f "$machine.log"
  # As this machine reaches Debian's archives: proxies and the like, and the list of updates.
  apt-config dump Acquire >"$machine/etc/apt/apt.conf.d/90host"
  ! [ -s /etc/apt/sources.list.d/debian.sources ] ||
    { rm -f "$machine/etc/apt/sources.list"; cp /etc/apt/sources.list.d/debian.sources "$machine/etc/apt/sources.list.d/"; }
  chroot "$machine" useradd --create-home --shell /bin/bash guest
  echo "guest ALL=(ALL) NOPASSWD: ALL" >"$machine/etc/sudoers.d/guest"
  touch "$machine/bare"
fi
cp /etc/resolv.conf "$machine/etc/resolv.conf"
for at in proc dev sys; do
  mount --rbind "/$at" "$machine/$at"
  mount --make-rslave "$machine/$at"
  mounted=("$machine/$at" "${mounted[@]}")
done

# The path that it has here, so that what was compiled serves here too; but a plain user sees no /root.
tree=$PWD
[[ $tree != /root/* ]] || tree=/home/guest/tessera
inside() {  # as whom, command
  chroot "$machine" /usr/bin/env -i TERM=dumb PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    su "$1" --shell /bin/bash --command "cd '$tree' && $2"
}
rm -rf "$machine$tree"
mkdir -p "$(dirname "$machine$tree")"
git clone -q --no-hardlinks . "$machine$tree"
chroot "$machine" chown -R guest:guest "$tree"

for command in tools/demo.sh tools/test.sh; do
  grep -q "^$command" README.md || die "the README does not give the command $command"
  echo "--- a plain user: $command"
  inside guest "$command"
done
chroot "$machine" chown -R root:root "$tree"
chroot "$machine" dpkg --purge --force-depends libgmock-dev >/dev/null 2>&1
for command in tools/demo.sh "tools/test.sh -R '(Cli|examples|completion)'"; do
  echo "--- root: $command"
  inside root "$command"
done
echo "fresh: a bare Debian 12 runs both commands, as a plain user and as root"
