#!/usr/bin/env bash
# Writes the manual pages, one for each verb, from the program's --help.
#   man.sh PROGRAM OUT
set -euo pipefail
program=$(realpath "$1") out=$2
verbs=$("$program" --help | sed -nE '/^Verbs:/,/^$/s/^  ([a-z]+) +(.*)/\1/p')
mkdir -p "$out"
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# The description becomes the page's name line, and the headings are those of manual pages.
page() {  # page NAME WORDS...
  local name=$1; shift
  local about
  about=$("$program" "$@" --help | sed -n 1p)
  {
    printf '#!/bin/sh\n[ "$1" != --version ] || exec %q --version\n' "$program"
    printf '%q ' "$program" "$@"
    printf -- "--help | sed -e '1d' -e 's/^Positionals:/Arguments:/'\n"
  } >"$scratch/$name"
  chmod +x "$scratch/$name"
  help2man --no-info --section=1 --manual="Tessera" --source="$("$program" --version | sed -n 1p)" \
    --version-string="$("$program" --version | sed -n '1s/.* //p')" --name="${about%.}" --output="$out/$name.1" "$scratch/$name"
}

page tessera
for verb in $verbs; do
  if [ "$verb" = train ]; then
    page tessera-train train
    page tessera-train-unet train unet
    page tessera-train-han train han
  else
    page "tessera-$verb" "$verb"
  fi
done
