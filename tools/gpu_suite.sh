#!/usr/bin/env bash
# Everything that a GPU is asked for, in one command.
#
#   tools/gpu_suite.sh bundle [ARCHITECTURES]
#                                       on a development machine, with nvcc: installs, builds, and
#                                       puts what a bare GPU machine needs into build-gpu/bundle;
#                                       for an H100 or H200 (90a-real) unless CMake's list says else
#   tools/gpu_suite.sh run [--out DIR]  on the GPU machine, which needs a driver and Python 3;
#                                       without a bundle it makes one first
#
# `run` ends within 300 seconds and `run --rest` does what is left; `run --dry-run` tries both
# without a GPU, `run --help` has all options. The bundle holds both programs, every shared library that they need,
# and the C library with its loader, for a machine whose own is older; libcuda is the driver's.
set -euo pipefail
cd "$(dirname "$0")/.."

build=build-gpu
bundle=$build/bundle
programs=(tessera tessera_cuda_tests)

die() { echo "gpu_suite: $*" >&2; exit 2; }

version_of_commit() {
  local commit
  commit=$(git rev-parse HEAD 2>/dev/null) || { echo unknown; return; }
  [ -z "$(git status --porcelain)" ] || commit+=+changes
  echo "$commit"
}

make_bundle() {
  local nvcc architectures=${1:-90a-real}
  nvcc=$(command -v nvcc || echo /usr/local/cuda/bin/nvcc)
  [ -x "$nvcc" ] || die "no nvcc: install the CUDA toolkit, or put nvcc on the PATH"
  tools/setup.sh binutils
  # Both programs hold every kernel, which nvcc packs eight times smaller when asked to.
  local smallest=
  ! "$nvcc" --help | grep -q compress-mode || smallest=--compress-mode=size
  # A DT_RPATH, which the libraries' own needs follow too: both programs run from the bundle as they
  # are, under profilers and sanitizers as well.
  cmake -S . -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=Release -DTESSERA_CUDA=ON -DTESSERA_TESTS=ON \
    -DCMAKE_CUDA_COMPILER="$nvcc" -DCMAKE_CUDA_ARCHITECTURES="$architectures" -DCMAKE_CUDA_FLAGS="$smallest" -DCMAKE_BUILD_RPATH='$ORIGIN/../lib' \
    -DCMAKE_EXE_LINKER_FLAGS=-Wl,--disable-new-dtags >/dev/null
  cmake --build "$build" --target tessera_program tessera_cuda_tests

  rm -rf "$bundle"
  mkdir -p "$bundle/bin" "$bundle/lib" "$bundle/glibc"
  local program library
  for program in "${programs[@]}"; do
    strip -o "$bundle/bin/$program" "$build/$program"
    ldd "$build/$program" | grep -o '/[^ ]*' | while read -r library; do
      case ${library##*/} in
        ld-linux* | libc.so.* | libm.so.* | libmvec.so.* | libpthread.so.* | libdl.so.* | librt.so.*)
          cp -L "$library" "$bundle/glibc/" ;;
        *) cp -L "$library" "$bundle/lib/" ;;
      esac
    done
  done
  strip --strip-unneeded "$bundle"/lib/*
  cat >"$bundle/bundle.json" <<JSON
{
  "commit": "$(version_of_commit)",
  "built": "$(date -u +%Y-%m-%dT%H:%M:%SZ)",
  "architectures": "$architectures",
  "nvcc": "$("$nvcc" --version | sed -n 's/.*release .*, V//p')",
  "compiler": "$(c++ --version | head -n 1)"
}
JSON
  local mib
  mib=$(du -sm "$bundle" | cut -f1)
  echo "$bundle: $mib MiB, commit $(version_of_commit)"
  # A lent machine takes 64 MiB, this tree's 17 among them.
  [ "$mib" -lt 47 ] || die "$bundle must be smaller than 47 MiB: leave out architectures"
}

case ${1:-} in
  bundle) make_bundle "${2:-}" ;;
  run)
    shift
    command -v python3 >/dev/null || die "no python3 on this machine"
    exec python3 tools/bench/gpu_suite.py "$@" ;;
  *) sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "$0" >&2; exit 2 ;;
esac
