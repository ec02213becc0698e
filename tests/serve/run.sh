#!/usr/bin/env bash
# Tests the Triton backend of a build in a real tritonserver, which a PyPI package brings, on the CPU.
#   run.sh [PYTHON] [BUILD] [what pytest takes]   default: python3, build
# The server and its client (150 MB) stay in BUILD/serve_environment.
set -euo pipefail
cd "$(dirname "$0")/../.."
python=${1:-python3} build=$(realpath "${2:-build}")
environment=$build/serve_environment

if [ ! -e "$environment/complete" ]; then
  rm -rf "$environment"
  "$python" -m venv "$environment"
  # Without what nvidia-pytriton itself needs: of it the server alone is wanted.
  if ! { "$environment/bin/pip" -q install --no-deps nvidia-pytriton==0.7.0 &&
         "$environment/bin/pip" -q install 'tritonclient[http,grpc]' numpy pillow pytest; } 2>"$build/serve_pip.log"; then
    echo "Triton: skipped; its packages cannot be had here: $(tail -n 1 "$build/serve_pip.log")"
    exit 0
  fi
  touch "$environment/complete"
fi
TESSERA_BUILD=$build exec "$environment/bin/python" -m pytest -q -p no:cacheprovider tests/serve "${@:3}"
