#!/usr/bin/env bash
# Builds the site of the documentation: the tree's own texts, Python's names from an installed wheel, the program's --help.
#   site.sh PYTHON OUT     PYTHON has the wheel and: pip install sphinx furo myst-parser
# A warning is an error.
set -euo pipefail
python=$(cd "$(dirname "$(command -v "$1")")" && pwd)/$(basename "$1")  # of a venv, so links are kept
mkdir -p "$2"
out=$(realpath "$2")
cd "$(dirname "$0")"
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
# Beside the tree, because `program.md` is made and the included paths are relative.
site=$scratch/tools/packaging/site
mkdir -p "$site" "$scratch/tools/python" "$scratch/tools/serve" "$scratch/.github"
tree=$(realpath ../..)
cp site/* "$site"
for text in README.md CMakeLists.txt models tools/python/README.md tools/serve/README.md tools/packaging/README.md \
  tools/packaging/CHANGELOG.md .github/SECURITY.md; do
  ln -s "$tree/$text" "$scratch/$text"
done

program=$("$python" -c 'from tessera.program import PROGRAM; print(PROGRAM)')
{
  echo '# The program, verb by verb'
  for verb in '' $("$program" --help | sed -nE '/^Verbs:/,/^$/s/^  ([a-z]+) +(.*)/\1/p') 'train unet' 'train han'; do
    printf '\n## tessera %s\n\n```text\n' "$verb"
    # shellcheck disable=SC2086
    "$program" $verb --help
    printf '```\n'
  done
} >"$site/program.md"
"$python" -m sphinx -q -W --keep-going -b html -d "$scratch/doctrees" "$site" "$out"
echo "site: $out/index.html"
