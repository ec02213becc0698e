#!/usr/bin/env bash
# Builds the image of tools/packaging/Dockerfile without a daemon or a registry, and runs the program in it.
#   container_test.sh [BUILD]   BUILD: an existing build, installed in place of the first
#                               stage, which compiles the tree
# As root; without Debian's buildah and mmdebstrap skipped (77).
set -euo pipefail
build=${1:+$(realpath "$1")}
cd "$(dirname "$0")/../.."
for tool in buildah mmdebstrap; do
  command -v "$tool" >/dev/null || { echo "container: skipped; apt-get install buildah mmdebstrap"; exit 77; }
done
[ "$(id -u)" -eq 0 ] || { echo "container: skipped; a base system without a registry is made by root"; exit 77; }

scratch=$(mktemp -d)
trap 'rm -rf --one-file-system "$scratch"' EXIT
export BUILDAH_ISOLATION=chroot STORAGE_DRIVER=vfs
cat >"$scratch/storage.conf" <<END
[storage]
driver = "vfs"
graphroot = "$scratch/images"
runroot = "$scratch/run"
END
export CONTAINERS_STORAGE_CONF=$scratch/storage.conf

mmdebstrap --quiet --variant=minbase bookworm "$scratch/base.tar"
base=$(buildah from scratch)
buildah add --quiet "$base" "$scratch/base.tar" / >/dev/null
buildah commit --quiet --rm "$base" tessera-base >/dev/null
rm "$scratch/base.tar"

cp tools/packaging/Dockerfile "$scratch/Dockerfile"
if [ -n "$build" ]; then
  DESTDIR=$scratch/tree/installed cmake --install "$build" --prefix /usr --strip >/dev/null
  made=$(buildah from scratch)
  buildah add --quiet "$made" "$scratch/tree" / >/dev/null
  buildah commit --quiet --rm "$made" tessera-build >/dev/null
  # The second stage alone, which copies from the first.
  { echo 'ARG BASE'; sed -n '/^FROM ${BASE}$/,$p' tools/packaging/Dockerfile | sed 's/--from=build/--from=localhost\/tessera-build/'; } \
    >"$scratch/Dockerfile"
fi
git ls-files -z | tar -c --null -T - | { mkdir "$scratch/source"; tar -x -C "$scratch/source"; }
buildah bud --quiet --pull-never --build-arg BASE=localhost/tessera-base -f "$scratch/Dockerfile" -t tessera "$scratch/source"

container=$(buildah from --pull-never tessera)
buildah config --workingdir /tmp "$container"
[ "$(buildah inspect --format '{{.OCIv1.Config.User}}' "$container")" = 65532:65532 ]
run() { buildah run "$container" -- "$@"; }
run tessera --version
buildah copy --quiet "$container" models/demo/membranes.png /data/membranes.png >/dev/null
run tessera segment /data/membranes.png -m /usr/share/tessera/unet_isbi.safetensors -o /tmp/masks --quiet
run cat /tmp/masks/membranes.mask.png >"$scratch/mask.png"
if [ -n "$build" ]; then
  "$build/tessera" segment models/demo/membranes.png -m models/demo/unet_isbi.safetensors -o "$scratch/masks" --quiet
  cmp "$scratch/masks/membranes.mask.png" "$scratch/mask.png"
fi
[ -s "$scratch/mask.png" ]
echo "container: built and run"
