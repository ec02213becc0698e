#!/usr/bin/env bash
# Includes go one way: tools -> models -> engine -> kernels, and within a layer from the later rooms of
# the lists below to the earlier ones. Prints every include that goes up.
set -euo pipefail
cd "$(dirname "$0")/.."

bad=0
check() {  # check <room> <rooms that it must not include, as an expression>
  if grep -rnE "#include \"($2)/" --include='*.h' --include='*.cpp' --include='*.cu' --include='*.cuh' "$1"; then bad=1; fi
}
floors() {  # floors <layer> <rooms, lowest first>
  local layer=$1 rooms=("${@:2}") i
  for ((i = 0; i + 1 < ${#rooms[@]}; ++i)); do
    check "$layer/${rooms[i]}" "$layer/($(IFS='|'; echo "${rooms[*]:i+1}"))"
  done
}
check kernels 'engine|models|tools|tests'
check engine 'models|tools|tests'
check models 'tools|tests'
check tools 'tests'
floors engine files graph passes device run train
floors models text image networks import export training
exit $bad
