#!/usr/bin/env bash
# One run of a network under NVIDIA's profilers, with the flags that suit it; what to look at is in
# tools/bench/README.md.
#
#   tools/profile.sh nsys MODEL INPUT [OPTIONS]   the timeline: kernels in the nodes' NVTX ranges
#   tools/profile.sh ncu MODEL INPUT [OPTIONS]    counters of each kernel; --node down1/conv2: its alone
#   tools/profile.sh nsys|ncu PRESET [OPTIONS]    of a network of 'tessera bench': unet-paper, han
#
# OPTIONS, which come last, are those of 'tessera profile' (--precision, --device cuda:1). Everything lies in
# out/profile, or where -o DIR says: the profiler's report, its table as text, and profile.json,
# trace.json and roofline.svg of the program's own events. Where the profiler is missing, or writes what
# it cannot read back, the table is that of those events. TESSERA names another program than
# build/tessera.
set -euo pipefail
cd "$(dirname "$0")/.."

die() { echo "profile: $*" >&2; exit 2; }
usage() { sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "$0" >&2; exit 2; }

tool=${1:-}
case $tool in nsys | ncu) shift ;; *) usage ;; esac
out=out/profile node= words=() options=()
while [ $# -gt 0 ]; do
  case $1 in
    -o) [ $# -gt 1 ] || die "-o needs a folder"; out=$2; shift 2 ;;
    --node) [ $# -gt 1 ] || die "--node needs the name of a node"; node=$2; shift 2 ;;
    -*) # an option of the program's, and its value
      options+=("$1"); shift
      if [ $# -gt 0 ] && [[ $1 != -* ]]; then options+=("$1"); shift; fi ;;
    *) words+=("$1"); shift ;;
  esac
done
case ${#words[@]} in
  1) run=("${words[0]}") ;;
  2) run=("${words[1]}" -m "${words[0]}") ;;
  *) usage ;;
esac
read -ra program <<<"${TESSERA:-build/tessera}"
command -v "${program[0]}" >/dev/null || die "no ${program[0]}: build it (tools/demo.sh), or set TESSERA"
mkdir -p "$out"
rm -f "$out"/tessera.{nsys-rep,sqlite,qdstrm,ncu-rep} "$out"/table.txt

# The tool, where installers put it; Nsight Compute brings an nsys of its own in its host folder.
find_tool() {
  command -v "$1" && return
  find ${PROFILE_TOOLS:-/opt/nvidia /usr/local/cuda*/ /usr/lib/nsight-systems /usr/lib/nsight-compute} \
    -name "$1" \( -type f -o -type l \) -perm -u+x 2>/dev/null | sort -r | head -n 1
}
own_events() {
  echo "--- by the program's own events"
  "${program[@]}" profile "${run[@]}" ${options[@]+"${options[@]}"} --sort time | tee "$out/table.txt"
}
# Both the JSON and the pictures come from the run that is watched.
watched=("${program[@]}" profile "${run[@]}" --iterations 1 ${options[@]+"${options[@]}"} --json
  --trace "$out/trace.json" --roofline "$out/roofline.svg")

found=$(find_tool "$tool") || true
if [ -z "$found" ]; then
  case $tool in
    nsys) echo "profile: nsys is not on this machine: install NVIDIA's package nsight-systems-cli" >&2 ;;
    ncu) echo "profile: ncu is not on this machine: install NVIDIA's package nsight-compute" >&2 ;;
  esac
  "${watched[@]}" >"$out/profile.json"
  own_events
  exit 1
fi
echo "profile: $found" >&2

if [ "$tool" = nsys ]; then
  # No sampling of the CPU, which needs rights and tells nothing here; graphs node by node.
  "$found" profile --trace=cuda,nvtx --sample=none --cpuctxsw=none --cuda-graph-trace=node \
    --force-overwrite=true -o "$out/tessera" "${watched[@]}" >"$out/nsys.log" 2>&1 ||
    { tail -n 5 "$out/nsys.log" >&2; die "nsys failed; its words are in $out/nsys.log"; }
  sed -n '/^{/,/^}/p' "$out/nsys.log" >"$out/profile.json"
  report=$out/tessera.nsys-rep stream=$out/tessera.qdstrm
  # Without its importer nsys leaves raw events; another installation's may read them.
  importer=$(find_tool QdstrmImporter) || true
  if [ ! -f "$report" ] && [ -f "$stream" ] && [ -n "$importer" ]; then
    "$importer" -i "$stream" -o "$report" >>"$out/nsys.log" 2>&1 || true
  fi
  if [ -f "$report" ] && "$found" stats --force-export=true --format table \
    --report cuda_gpu_kern_sum --report nvtx_gpu_proj_sum "$report" >"$out/table.txt" 2>>"$out/nsys.log"; then
    cat "$out/table.txt"
    echo "profile: $report opens in Nsight Systems" >&2
  else
    [ ! -f "$stream" ] || echo "profile: this nsys has no importer and wrote $stream, which Nsight Systems opens (File, Import)" >&2
    own_events
  fi
else
  only=()
  # A slash within a name is no nesting of ranges.
  [ -z "$node" ] || only=(--nvtx --nvtx-include "${node//\//\\/}/")
  sections=()
  for section in SpeedOfLight MemoryWorkloadAnalysis ComputeWorkloadAnalysis Occupancy LaunchStats SchedulerStats \
    WarpStateStats SourceCounters; do sections+=(--section "$section"); done
  # Clocks as they are in use; ncu's own are a third lower.
  "$found" "${sections[@]}" --clock-control none --import-source yes ${only[@]+"${only[@]}"} --force-overwrite \
    -o "$out/tessera" "${watched[@]}" >"$out/ncu.log" 2>&1 || {
    ! grep -q ERR_NVGPUCTRPERM "$out/ncu.log" || die "counters are for the administrator alone here: run it as root, or load the driver with NVreg_RestrictProfilingToAdminUsers=0"
    tail -n 5 "$out/ncu.log" >&2; die "ncu failed; its words are in $out/ncu.log"; }
  sed -n '/^{/,/^}/p' "$out/ncu.log" >"$out/profile.json"
  "$found" --import "$out/tessera.ncu-rep" --page details | tee "$out/table.txt"
  echo "profile: $out/tessera.ncu-rep opens in Nsight Compute" >&2
fi
