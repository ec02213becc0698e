#!/usr/bin/env bash
# The SLURM array on a cluster of this machine: a controller and two nodes, of Debian's slurm-wlm and munge.
#   slurm_test.sh PROGRAM      as root, which SLURM's daemons want; else, or without the packages, skipped (77)
# A task is killed and submitted again, then a node is lost while it works; masks are those of one process, to the byte.
set -euo pipefail
program=$(realpath "$1")
cd "$(dirname "$0")/../.."
for daemon in munged slurmctld slurmd; do
  command -v "$daemon" >/dev/null || { echo "slurm: skipped; apt-get install slurm-wlm munge"; exit 77; }
done
[ "$(id -u)" -eq 0 ] || { echo "slurm: skipped; its daemons want root"; exit 77; }

scratch=$(mktemp -d)
chmod 755 "$scratch"
daemons=()
end() {
  kill -9 "${daemons[@]}" 2>/dev/null || true
  ! work_with "SLURM_CLUSTER_NAME=tessera" || kill_work
  rm -rf "$scratch"
}
trap end EXIT
work_with() {  # work_with NAME=VALUE: the programs of tasks that have it in their environment; fails where there is none
  local at
  work=()
  for at in $(grep -lsx tessera /proc/[0-9]*/comm); do
    at=${at%/comm}
    ! { grep -qsz "^SLURM_CONF=$scratch/" "$at/environ" && grep -qsz "^$1$" "$at/environ"; } || work+=("${at#/proc/}")
  done
  [ ${#work[@]} -gt 0 ]
}
kill_work() {  # what `work` names, and who looks after it
  local pid parent
  for pid in "${work[@]}"; do
    parent=$(awk '/^PPid:/ { print $2 }' "/proc/$pid/status" 2>/dev/null) || continue
    [ "$(cat "/proc/$parent/comm" 2>/dev/null)" != slurmstepd ] || kill -9 "$parent" 2>/dev/null || true
    kill -9 "$pid" 2>/dev/null || true
  done
}
start() { "$@" >>"$scratch/daemons.log" 2>&1 & daemons+=($!); disown; }
die() { echo "slurm: $*" >&2; tail -n 20 "$scratch"/*.log >&2; exit 1; }
until_() {  # until_ SECONDS COMMAND...
  local left=$(($1 * 5)); shift
  until "$@"; do ((left-- > 0)) || die "waited in vain for: $*"; sleep 0.2; done
}

# --- the cluster
cd "$scratch"
mkdir state scans
head -c 1024 /dev/urandom >munge.key
chmod 600 munge.key
start munged --foreground --force --socket="$scratch/munge" --key-file="$scratch/munge.key" --pid-file="$scratch/munge.pid" \
  --log-file="$scratch/munge.log" --seed-file="$scratch/munge.seed"
port=$((20000 + RANDOM % 10000))
cat >slurm.conf <<END
ClusterName=tessera
SlurmctldHost=$(hostname -s)(127.0.0.1)
SlurmctldPort=$port
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket=$scratch/munge,cred_expire=5
StateSaveLocation=$scratch/state
SlurmdSpoolDir=$scratch/spool-%n
SlurmctldPidFile=$scratch/slurmctld.pid
SlurmdPidFile=$scratch/slurmd-%n.pid
SlurmctldLogFile=$scratch/slurmctld.log
SlurmdLogFile=$scratch/slurmd-%n.log
SlurmdTimeout=5
SlurmdParameters=config_overrides
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
ProctrackType=proctrack/pgid
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
ReturnToService=2
SchedulerParameters=batch_sched_delay=1,sched_interval=1,bf_interval=1
NodeName=node[1-2] NodeHostname=$(hostname -s) NodeAddr=127.0.0.1 Port=[$((port + 1))-$((port + 2))] CPUs=1 RealMemory=1000
PartitionName=all Nodes=node[1-2] Default=YES
END
export SLURM_CONF=$scratch/slurm.conf
until_ 20 test -S munge
start slurmctld -D
start slurmd -D -N node1
start slurmd -D -N node2
node2=${daemons[-1]}
until_ 30 eval '[ "$(sinfo -h -o %D -t idle 2>/dev/null)" = 2 ]'

# --- the work: images, and what one process makes of them
cd - >/dev/null
for i in {1..32}; do cp models/demo/membranes.png "$scratch/scans/$i.png"; done
model=$PWD/models/demo/unet_isbi.safetensors
PATH=$(dirname "$program"):$PATH
tessera segment "$scratch/scans" -m "$model" -o "$scratch/one" --quiet --threads 1 >/dev/null
submit() {  # submit OUT ARRAY MORE...: prints the job's number
  local out=$1 array=$2; shift 2
  sbatch --parsable --array="$array" --cpus-per-task=1 --mem=900M --output="$scratch/job-%a.log" --open-mode=append "$@" \
    tools/packaging/slurm/segment.sbatch "$scratch/scans" "$model" "$out" 4
}
finished() { [ -z "$(squeue -h -j "$1" 2>/dev/null)" ]; }
check() {
  local name
  for name in "$scratch"/one/*.mask.png; do cmp "$name" "$1/${name##*/}" || die "masks differ"; done
  [ "$(find "$1" -name '*.mask.png' | wc -l)" = 32 ] || die "there are other masks"
}

job=$(submit "$scratch/killed" 1-4)
until_ 60 work_with SLURM_ARRAY_TASK_ID=3
scancel --signal=KILL --batch "${job}_3"
until_ 120 finished "$job"
for node in node1 node2; do
  [[ $(scontrol show job "$job") == *" NodeList=$node"* ]] || die "nothing ran on $node"
done
[ ! -e "$scratch/killed/summary.3-of-4.json" ] || die "the killed task ended"
again=$(submit "$scratch/killed" 3)
until_ 60 finished "$again"
check "$scratch/killed"
echo "slurm: a killed task was made again"

# A node that is gone: SLURM sees it after SlurmdTimeout, and gives its task to another.
job=$(submit "$scratch/lost" 1-4)
until_ 60 work_with SLURMD_NODENAME=node2
kill -9 "$node2"
kill_work
lost=$(squeue -h -w node2 -o %i)
until_ 180 finished "$job"
[[ $(scontrol show job "$lost") == *" Restarts=1 "* ]] || die "task $lost was not made again"
check "$scratch/lost"
echo "slurm: a node was lost with task $lost, which another made"
