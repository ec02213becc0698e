#!/usr/bin/env bash
# Installs the Debian packages that Tessera is built and tested with; does nothing when they are there.
set -euo pipefail

packages=(
  g++ cmake ninja-build
  libfmt-dev nlohmann-json3-dev libcli11-dev                   # text, JSON, arguments
  libhwy-dev                                                  # SIMD
  libstb-dev libtiff-dev libpng-dev libjpeg62-turbo-dev libexpat1-dev  # images
  zlib1g-dev libbz2-dev liblzma-dev libzstd-dev libblosc-dev   # compression
  libonnx-dev libprotobuf-dev protobuf-compiler               # ONNX
  libhdf5-dev                                                 # Keras' files
  libyaml-cpp-dev nettle-dev                                  # bioimage.io's packages
  libutf8proc-dev                                             # Unicode
  libxxhash-dev                                               # digests
  libgtest-dev libgmock-dev pkgconf                           # tests
  "$@"                                                        # more, for CI
)

missing=()
for package in "${packages[@]}"; do
  dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
done
[ ${#missing[@]} -eq 0 ] && exit 0

die() { printf '%s\n' "$@" >&2; exit 1; }
if [ "$(id -u)" -eq 0 ]; then
  as_root=(env)
elif command -v sudo >/dev/null; then
  as_root=(sudo env)
else
  die "Tessera needs packages that only root can install; as root:" "  apt-get install ${missing[*]}"
fi

# Another apt (unattended upgrades on a machine that has just started, say) is waited for. It takes
# several locks, of which apt-get waits by itself for some alone.
apt() {
  local said
  for _ in {1..300}; do
    said=$("${as_root[@]}" LC_ALL=C DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=600 "$@" 2>&1) &&
      return
    [[ $said == *"Could not get lock"* || $said == *"is another process using it"* ]] || break
    [ -n "${waiting:-}" ] || echo "waiting for another apt to finish" >&2
    waiting=1
    sleep 2
  done
  die "$said" "apt-get $1 failed; Tessera needs: ${missing[*]}"
}
echo "installing: ${missing[*]}" >&2
apt update
apt install -y --no-install-recommends "${missing[@]}"
