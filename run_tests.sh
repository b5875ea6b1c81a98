#!/usr/bin/env bash
# Runs the tests: bash run_tests.sh [--slow | --soak] [pytest arguments]. Without --slow, tests marked slow are left out.
# --soak runs those alone that look for rare things for many minutes (SOAK_MINUTES=20 each), and prints what they counted.
# A process for each core, of four at most; arguments win: -n 0 keeps to one (for a debugger).
# PYTHON=… uses that interpreter as it is instead of .venv.
set -euo pipefail
CALLER_DIR=$PWD
cd "$(dirname "${BASH_SOURCE[0]}")"
source environment.sh
add_test_packages
# By file, since a file's tests share what was made for the first of them.
parallel=(--numprocesses=auto --maxprocesses=4 --dist=loadfile)
if [[ "${1:-}" == "--slow" ]]; then
  shift
  exec "$PYTHON" -m pytest "${parallel[@]}" -m "not soak" "$@"
fi
if [[ "${1:-}" == "--soak" ]]; then
  shift
  exec "$PYTHON" -m pytest --numprocesses=0 -s -m soak "$@"
fi
exec "$PYTHON" -m pytest "${parallel[@]}" -m "not slow and not soak" "$@"
