#!/usr/bin/env bash
# Installs what is missing, builds, segments a sample image and classifies sample documents with the
# bundled weights, and says where the results are.
set -euo pipefail
cd "$(dirname "$0")/.."

tools/setup.sh
if [ ! -e build/CMakeCache.txt ]; then
  cuda=AUTO
  # By the files that NVIDIA's drivers make, as the program itself looks for them.
  if ! compgen -G '/dev/nvidia*' >/dev/null && ! compgen -G '/dev/dxg' >/dev/null &&
    ! compgen -G '/dev/nvhost-*' >/dev/null && ! compgen -G '/dev/nvgpu*' >/dev/null; then
    cuda=OFF
    echo "No NVIDIA GPU is here: CUDA kernels are left out. They are added by:"
    echo "  cmake build -DTESSERA_CUDA=AUTO && cmake --build build"
  fi
  cmake --preset release -DTESSERA_CUDA=$cuda >/dev/null
fi
cmake --build build --target tessera_program

demo=models/demo
out=out/demo
mkdir -p "$out"

timed() {  # runs a command and prints its wall time
  local start end
  start=$(date +%s%N)
  "$@"
  end=$(date +%s%N)
  printf '  took %d ms, from process start to exit\n\n' $(((end - start) / 1000000))
}

echo "Segmenting $demo/membranes.png"
timed build/tessera segment "$demo/membranes.png" -m "$demo/unet_isbi.safetensors" -o "$out" --quiet
echo "Classifying $demo/reviews.tsv"
timed build/tessera classify "$demo/reviews.tsv" -m "$demo/han_imdb.safetensors" \
  --html "$out/reviews.html"

cat <<EOF
Results:
  mask                  $out/membranes.mask.png
  overlay picture       $out/membranes.overlay.png
  highlighted documents $out/reviews.html
EOF
