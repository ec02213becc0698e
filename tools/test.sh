#!/usr/bin/env bash
# Installs what is missing, builds the release (build/) and runs all tests.
set -euo pipefail
cd "$(dirname "$0")/.."

tools/setup.sh
[ -e build/CMakeCache.txt ] || cmake --preset release
cmake build -DTESSERA_CUDA=AUTO -DTESSERA_TESTS=ON  # The demo leaves CUDA out where no GPU is.
cmake --build build
ctest --test-dir build --output-on-failure --parallel "$(nproc)" "$@"
