#!/usr/bin/env bash
# Makes the wheel of a build and tests it, and extras of it, in clean environments of the same Python.
#   run.sh [PYTHON] [BUILD] [EXTRA...]   default: python3, build, no extra
set -euo pipefail
cd "$(dirname "$0")/../.."
python=${1:-python3} build=${2:-build}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

if ! "$python" -m pip download -q --no-deps -d "$scratch" nanobind 2>/dev/null; then
  echo "python: skipped; the package index cannot be reached"
  exit 0
fi
tools/python/wheel.sh "$python" "$build" "$scratch/wheels"
"$python" -m venv "$scratch/venv"
"$scratch/venv/bin/pip" -q install "$(ls "$scratch"/wheels/*.whl)[test]"
cd tests/python  # not the tree's own tessera/
"$scratch/venv/bin/python" -m pytest -q -p no:cacheprovider
for extra in "${@:3}"; do
  ./extra.sh "$extra" "$scratch"/wheels/*.whl "$python"
done
