#!/usr/bin/env bash
# Tests an extra of a wheel in an environment of its own, or says why it is skipped.
#   extra.sh app|napari|ray|spark|site WHEEL [PYTHON]   napari weighs 1 GB and needs a display, which Xvfb is: nightly, not in CI;
#   "site" is no extra of the wheel but the documentation, which is built with it
set -euo pipefail
extra=$1 wheel=$(realpath "$2") python=${3:-python3}
cd "$(dirname "$0")"

skip() { echo "$extra: skipped; $*"; exit 0; }
run=() more=()
case $extra in
  app)
    command -v chromium >/dev/null || skip "apt-get install chromium"
    more=(playwright==1.65.0 axe-playwright-python) ;;
  napari)
    command -v xvfb-run >/dev/null || skip "apt-get install xvfb xauth libegl1 libgl1 libgl1-mesa-dri libxcb-cursor0" \
      "libxkbcommon-x11-0 libxcb-{icccm4,image0,keysyms1,randr0,render-util0,xinerama0,shape0} libdbus-1-3 imagej"
    run=(xvfb-run -a) more=('napari[pyqt6]' pytest-qt) ;;
  ray) ;;
  spark) command -v java >/dev/null || skip "apt-get install openjdk-17-jre-headless" ;;
  site) more=(sphinx furo myst-parser) ;;
  *) echo "extra.sh: no extra '$extra'" >&2; exit 2 ;;
esac
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
"$python" -m venv "$scratch/venv"
# uv installs them in a tenth of pip's time.
{ "$scratch/venv/bin/pip" -q install uv &&
  "$scratch/venv/bin/uv" -q pip install --compile-bytecode --python "$scratch/venv/bin/python" "$wheel[${extra/site/test},test]" "${more[@]}"; } ||
  skip "its packages cannot be had"
[ "$extra" != napari ] || "$scratch/venv/bin/npe2" validate tessera-engine
"${run[@]}" "$scratch/venv/bin/python" -m pytest -q -p no:cacheprovider "test_$extra.py"
