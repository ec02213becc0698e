#!/usr/bin/env bash
# Builds the fuzzers (build-sanitize/) and runs each, one for each processor at a time.
#   run.sh [SECONDS] [SEED] [FUZZER...]   default: a minute each with seed 1, all fuzzers
# CI's seed is fixed, so that a commit's answer does not hang on luck; seed 0 is another one each time.
# What a run finds lies beside the fuzzer, build-sanitize/NAME.crash-*; it belongs into corpus/NAME.
set -euo pipefail
cd "$(dirname "$0")/../.."

cmake --preset sanitize >/dev/null
cmake --build build-sanitize --target fuzzers -- -j "$(nproc)"
cd build-sanitize
export seconds=${1:-60} seed=${2:-1}
shift $(($# < 2 ? $# : 2))
[ $# -gt 0 ] || set -- *_fuzz
# xargs fails when one of them does.
printf '%s\n' "$@" | xargs -P "$(nproc)" -I {} sh -c 'mkdir -p {}.corpus
  ./{} -max_total_time=$seconds -seed=$seed -rss_limit_mb=4096 -artifact_prefix={}. {}.corpus >{}.log 2>&1 ||
    { tail -c 4000 {}.log; echo "{}: failed; the whole log is build-sanitize/{}.log"; exit 1; }
  echo "{}: $(tail -n 1 {}.log)"'
