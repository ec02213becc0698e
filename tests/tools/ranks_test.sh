#!/usr/bin/env bash
# Training by the ranks of Open MPI's mpirun: ranks_test.sh PROGRAM [HOSTS]. The models are those of one process, to the
# byte, for any number of ranks, after a killed rank too. HOSTS: further options of mpirun, for ranks of several machines
# (two_hosts.sh). Skipped (77) without mpirun.
set -euo pipefail
program=$(realpath "$1")
read -ra hosts <<<"${2:-}"
command -v mpirun >/dev/null || { echo "ranks: skipped; apt-get install openmpi-bin"; exit 77; }
folder=$(realpath "$(mktemp -d)")
trap 'rm -rf "$folder"' EXIT
cd "$folder"
export TESSERA_DEVICE=cpu TESSERA_THREADS=1 OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1

die() { echo "ranks: $*" >&2; exit 1; }
ranks() {  # ranks N ARGUMENTS...: the program by so many ranks
  timeout 120 mpirun -n "$1" --oversubscribe --bind-to none -x TESSERA_DEVICE -x TESSERA_THREADS ${hosts[@]+"${hosts[@]}"} \
    "$program" "${@:2}"
}
same() { cmp -s "$1" "$2" || die "$2 is not $1"; }

for i in $(seq 20); do
  printf 'good\tA lovely film, number %d. I saw it.\nbad\tAn awful film of %d. I left.\n' "$i" "$i"
done >train.tsv
mkdir -p cells/images cells/masks
perl -e 'srand 1; for my $i (0..4) { my ($y, $x) = (6 + rand 12, 6 + rand 12);
  for my $what ("images", "masks") { open my $f, ">", "cells/$what/$i.pgm"; binmode $f; print $f "P5 24 24 255\n";
    for my $p (0..575) { my $in = (int($p / 24) - $y) ** 2 + ($p % 24 - $x) ** 2 < 36;
      print $f chr($what eq "masks" ? ($in ? 255 : 0) : ($in ? 160 : 80) + int rand 30) } } }'
han=(train han train.tsv --units 3 --attention 3 --features 4 --batch 4 --accumulate 4 --rate 0.02)
unet=(train unet cells --depth 1 --base 4 --norm before_relu --tile 16 --batch 2 --tiles 11 --accumulate 4 --epochs 2)

for network in han unet; do
  declare -n options=$network
  mkdir $network.{1,2,4}
  "$program" "${options[@]}" -q -o $network.1/m.safetensors
  for count in 2 4; do
    ranks $count "${options[@]}" -o $network.$count/m.safetensors >$network.$count/said 2>&1 || die "$(cat $network.$count/said)"
    same $network.1/m.safetensors $network.$count/m.safetensors
    same $network.1/m.safetensors.run/last.safetensors $network.$count/m.safetensors.run/last.safetensors
    grep -qE "$count ranks share the 4 batches of a step, and the .* of the optimiser's state: " $network.$count/said || die "nothing said of the ranks: $(cat $network.$count/said)"
    [ "$(grep -c ' steps, ' $network.$count/said)" = 1 ] || die "not one rank spoke: $(cat $network.$count/said)"
  done
done

# Ranks that are not alike end with an error that says in what, and wait for nobody.
refused() {  # refused TEXT PROGRAM ARGUMENTS...: as rank 1 beside a rank 0 that trains as above
  if timeout 60 mpirun -n 1 --oversubscribe --bind-to none ${hosts[@]+"${hosts[@]}"} "$program" "${han[@]}" -o no.safetensors \
      : -n 1 --bind-to none "${@:2}" -o no.safetensors >said 2>&1
  then die "trained beside ${*:2}"; fi
  grep -q -e "$1" said || die "beside ${*:2}: $(cat said)"
}
refused 'seed: 0 on rank 0, 5 on rank 1' "$program" "${han[@]}" --seed 5
mkdir elsewhere
sed 's/lovely/good/' train.tsv >elsewhere/train.tsv
refused 'settings/data/.*_digest: ".*on rank 0, ".*on rank 1' "$program" train han elsewhere/train.tsv "${han[@]:3}"
refused 'train han on rank 0, tessera .* train unet on rank 1' "$program" "${unet[@]}"
refused 'train han on rank 0, tessera .* --check on rank 1' "$program" "${han[@]}" --check
refused 'nothing to resume' "$program" "${han[@]}" --resume
cp "$program" other
echo >>other
refused 'the ranks are not alike: tessera .* (build [0-9a-f]*) train han on rank 0' "$folder/other" "${han[@]}"
mkdir threads
timeout 60 mpirun -n 1 --oversubscribe --bind-to none ${hosts[@]+"${hosts[@]}"} "$program" "${han[@]}" -o threads/m.safetensors \
  : -n 1 --bind-to none "$program" "${han[@]}" --threads 2 -o threads/m.safetensors >said 2>&1 || die "threads of one rank: $(cat said)"
same han.1/m.safetensors threads/m.safetensors
if ranks 5 "${han[@]}" -o no.safetensors 2>said; then die "five ranks shared four batches"; fi
grep -q -e '--accumulate: 5 ranks share the batches of a step, which are 4' said || die "five ranks: $(cat said)"
[ ! -e no.safetensors ] || die "a refused run wrote a model"

# A killed rank ends the run, which other ranks finish.
long=("${han[@]}" --epochs 60)
mkdir long parts
"$program" "${long[@]}" -q -o long/m.safetensors
ranks 2 "${long[@]}" -q -o parts/m.safetensors >said 2>&1 &
running=$!
until [ "$(cat parts/m.safetensors.run/metrics.jsonl 2>/dev/null | wc -l)" -gt 3 ]; do
  kill -0 $running || die "ended by itself: $(cat said)"
  sleep 0.01
done
rank=
for process in /proc/[0-9]*; do
  [ "$(readlink "$process/exe" || true)" = "$program" ] && [ "$(readlink "$process/cwd" || true)" = "$folder" ] || continue
  rank=${process#/proc/}
done
[ -n "$rank" ] || die "no rank to kill: $(cat said)"
kill -KILL "$rank"
if wait $running; then die "nothing heard of the killed rank"; fi
ranks 4 "${long[@]}" -q --resume -o parts/m.safetensors
same long/m.safetensors parts/m.safetensors
same long/m.safetensors.run/last.safetensors parts/m.safetensors.run/last.safetensors
echo "ranks: 1, 2 and 4 gave the same bytes, after a killed rank too"
