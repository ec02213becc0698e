#!/usr/bin/env bash
# Installs the Debian packages that Tessera is built and tested with; does nothing when they are there.
set -euo pipefail

packages=(
  g++ cmake ninja-build
  libfmt-dev nlohmann-json3-dev libcli11-dev                   # text, JSON, arguments
  libhwy-dev                                                  # SIMD
  libstb-dev libtiff-dev libpng-dev libjpeg62-turbo-dev zlib1g-dev  # images
  libutf8proc-dev                                             # Unicode
  libxxhash-dev                                               # digests
  libgtest-dev libgmock-dev                                   # tests
  "$@"                                                        # more, for CI
)

missing=()
for package in "${packages[@]}"; do
  dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
done
[ ${#missing[@]} -eq 0 ] && exit 0

as_root() { if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo "$@"; fi; }
echo "installing: ${missing[*]}" >&2
as_root apt-get update -qq
as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
  "${missing[@]}" >/dev/null
