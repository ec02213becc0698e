#!/usr/bin/env bash
# Installs the build into a scratch folder, builds the examples against it and runs them.
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
cmake -S "$source/tests/examples" -B "$scratch/build" -G "$generator" -DCMAKE_PREFIX_PATH="$scratch/installed" >/dev/null
cmake --build "$scratch/build" >/dev/null
run() {  # example, model; what it prints lies in $scratch/output
  "$scratch/build/$1" "$scratch/installed/share/tessera/$2.safetensors" | tee "$scratch/output"
}
prints() {  # a whole line, as a regular expression
  grep -qxE "$1" "$scratch/output" || { echo "expected a line '$1'" >&2; exit 1; }
}
run segment unet_isbi
prints '8000 pixels on .+'
prints 'membrane: [1-9][0-9]*'
run classify han_imdb
prints 'positive (0[.][5-9][0-9]|1[.]00)'
prints 'weights of 2 sentences sum to 1[.]000'
run batch han_imdb
printf '%s\n' positive negative positive negative positive negative | diff - "$scratch/output"
run plan unet_isbi
prints 'more tiles need less memory'
run profile unet_isbi
prints '[1-9][0-9] nodes, [0-9.]*[1-9][0-9.]* GFLOP'
"$scratch/build/train" "$scratch" | tee "$scratch/output"
prints 'good enough after [0-9]+ epochs'
prints 'ring: (9[0-9]|100) % of the pixels are right'
prints 'review: good'

# By pkg-config, and from another place than it was installed to.
mv "$scratch/installed" "$scratch/moved"
PKG_CONFIG_PATH=$(dirname "$(find "$scratch/moved" -name tessera.pc)") && export PKG_CONFIG_PATH
read -ra flags <<<"$(pkg-config --cflags --libs tessera)"
c++ -std=c++20 "$source/tests/examples/classify.cpp" -o "$scratch/build/plain" "${flags[@]}" \
  "-Wl,-rpath,$(pkg-config --variable=pcfiledir tessera)/.."
"$scratch/build/plain" "$scratch/moved/share/tessera/han_imdb.safetensors" >"$scratch/output"
# The README's block compiles.
readme=$(awk '/^```cpp$/ { on = 1; next } /^```$/ { on = 0 } on' "$source/README.md")
{
  grep '^#include' <<<"$readme"
  echo 'void readme(const unsigned char* pixels, long height, long width) {'
  grep -v '^#include' <<<"$readme"
  echo '}'
} | c++ -std=c++20 -fsyntax-only "${flags[@]}" -x c++ -
mv "$scratch/moved" "$scratch/installed"
prints 'positive (0[.][5-9][0-9]|1[.]00)'

# The installed program finds its bundled model.
"$scratch/installed/bin/tessera" --version
