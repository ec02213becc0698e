#!/usr/bin/env bash
# Makes the Debian packages and has lintian look at them.
#   deb.sh OUT [BUILD]   BUILD: an existing build, configured with -DCMAKE_INSTALL_PREFIX=/usr; else the tree is compiled
set -euo pipefail
cd "$(dirname "$0")/../.."
mkdir -p "$1"
out=$(realpath "$1") build=${2:+$(realpath "$2")}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
version=$(dpkg-parsechangelog -l tools/packaging/debian/changelog -S Version)
mkdir "$scratch/tessera-$version"
git ls-files -z | tar -c --null -T - | tar -x -C "$scratch/tessera-$version"
cd "$scratch/tessera-$version"
cp -r tools/packaging/debian .
[ -z "$build" ] || export DEB_BUILD_OPTIONS=noautodbgsym  # a release build has no symbols
TESSERA_BUILD=$build dpkg-buildpackage --build=binary --no-sign ${build:+--no-check-builddeps} >"$out/build.log" 2>&1 ||
  { tail -n 40 "$out/build.log" >&2; exit 1; }
cp ../*.deb ../*.changes ../*.buildinfo "$out"
lintian --fail-on error,warning "$scratch"/*.changes
ls -l "$out"/*.deb
