#!/usr/bin/env bash
# What is too heavy for CI, after it: each step goes on past the failure of another, and says "skipped" where its packages
# cannot be had.
#   nightly.sh [BUILD] [STEP...]   default: build (a release build of all), every step; logs in BUILD/nightly
set -uo pipefail
cd "$(dirname "$0")/.."
build=$(realpath "${1:-build}")
logs=$build/nightly
mkdir -p "$logs"
failed=()

step() {  # step NAME COMMAND...
  local name=$1 begin=$SECONDS said code; shift
  [ ${#wanted[@]} -eq 0 ] || [[ " ${wanted[*]} " == *" $name "* ]] || return 0
  "$@" >"$logs/$name.log" 2>&1
  code=$?
  said=$(grep -E '(^|: )skipped' "$logs/$name.log" | tail -n 1)
  case $code in
    0 | 77) printf '%-16s %5d s  %s\n' "$name" $((SECONDS - begin)) "${said:-passed}" ;;
    *) printf '%-16s %5d s  FAILED (%d), see %s\n' "$name" $((SECONDS - begin)) $code "$logs/$name.log"; failed+=("$name") ;;
  esac
}
wanted=("${@:2}")

for python in python3.11 python3.12 python3.13 python3.14; do
  ! command -v "$python" >/dev/null || step "$python" tests/python/run.sh "$python" "$build" app ray spark site napari
done
step serve tests/serve/run.sh python3 "$build"
step slurm tests/tools/slurm_test.sh "$build/tessera"
step deb tools/packaging/deb.sh "$build/nightly/deb"
step container tests/tools/container_test.sh
step conan bash -c 'command -v conan >/dev/null || { echo "conan: skipped; pip install conan"; exit 77; }
  conan profile detect --exist-ok && conan create tools/packaging/conan --build=missing -c tools.system.package_manager:mode=check'
step simt ctest --test-dir "$build" --output-on-failure -R '^simt[.]check[.]'
step simt_asan bash -c 'cmake --preset sanitize && cmake --build build-sanitize --target tessera_simt_tests_asan &&
  build-sanitize/tessera_simt_tests_asan --gtest_brief=1'
step fuzz tests/fuzz/run.sh 1200 0
[ ${#failed[@]} -eq 0 ] || { echo "failed: ${failed[*]}"; exit 1; }
