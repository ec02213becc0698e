#!/usr/bin/env bash
# Installs the build into a scratch folder, builds the example against it and runs it.
#   run.sh <source folder> <build folder> <generator of CMake>
set -euo pipefail
source=$1 build=$2 generator=$3
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

cmake --install "$build" --prefix "$scratch/installed" >/dev/null
if grep -nE '#include <(cuda|dnnl|hwy|nlohmann|fmt|tiff|png)' -r "$scratch/installed/include"; then
  echo "the public header includes a library's header" >&2
  exit 1
fi
cmake -S "$source/tests/package" -B "$scratch/build" -G "$generator" -DCMAKE_PREFIX_PATH="$scratch/installed" >/dev/null
cmake --build "$scratch/build" >/dev/null
models="$scratch/installed/share/tessera"
"$scratch/build/example" "$models/unet_isbi.safetensors" "$models/han_imdb.safetensors" |
  tee "$scratch/output"
grep -qx "8000 pixels" "$scratch/output"
grep -qx "positive" "$scratch/output"
# The installed program finds its bundled model.
"$scratch/installed/bin/tessera" --version
