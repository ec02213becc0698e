#!/usr/bin/env bash
# Installs what is missing, builds the release (build/) and runs all tests.
set -euo pipefail
cd "$(dirname "$0")/.."

tools/setup.sh
cmake -S . -B build -G Ninja -DCMAKE_BUILD_TYPE=Release -DTESSERA_TESTS=ON
cmake --build build
ctest --test-dir build --output-on-failure --parallel "$(nproc)" "$@"
