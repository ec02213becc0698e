#!/usr/bin/env bash
# Includes go one way: tools -> models -> engine -> kernels. Prints every include that goes up.
set -euo pipefail
cd "$(dirname "$0")/.."

bad=0
check() {  # check <layer> <layers it must not include>
  if grep -rnE "#include \"($2)/" --include='*.h' --include='*.cpp' --include='*.cu' --include='*.cuh' "$1"; then bad=1; fi
}
check kernels 'engine|models|tools|tests'
check engine 'models|tools|tests'
check models 'tools|tests'
check tools 'tests'
exit $bad
