#!/usr/bin/env bash
# Completion of the program in bash: completion_test.sh PROGRAM. Skipped (77) without Debian's bash-completion.
set -euo pipefail
program=$(realpath "$1")
framework=/usr/share/bash-completion/bash_completion
[ -e "$framework" ] || { echo "completion: skipped; apt-get install bash-completion"; exit 77; }
set +eu  # bash-completion is not written for them
. "$framework"
. "$(dirname "$0")/../../tools/packaging/tessera.bash"
PATH=$(dirname "$program"):$PATH

failed=0
expect() {  # expect WORDS EXPECTED...: what completes the last of WORDS, each of EXPECTED among it
  local words=$1; shift
  COMP_LINE=$words COMP_POINT=${#words} COMP_WORDS=() COMP_CWORD=0 COMPREPLY=()
  read -ra COMP_WORDS <<<"$words"
  [[ $words != *" " ]] || COMP_WORDS+=("")
  COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
  _tessera
  local one
  for one in "$@"; do
    [[ " ${COMPREPLY[*]} " == *" $one "* ]] || { echo "'$words' gives '${COMPREPLY[*]}', without '$one'"; failed=1; }
  done
}
expect "tessera " segment classify train verify
expect "tessera seg" segment
expect "tessera train " unet han
expect "tessera train unet --che" --check --checkpoint-activations
expect "tessera segment --sh" --shard
expect "tessera --vers" --version
expect "tessera segment --device " auto cpu cuda
expect "tessera segment /usr/share/bash-completion/bash_comp" /usr/share/bash-completion/bash_completion
exit "$failed"
