#!/usr/bin/env bash
# Runs the tests: bash run_tests.sh [--slow] [pytest arguments]. Without --slow, tests marked slow are left out.
# PYTHON=… uses that interpreter as it is instead of .venv.
set -euo pipefail
CALLER_DIR=$PWD
cd "$(dirname "${BASH_SOURCE[0]}")"
source environment.sh
if [[ "${1:-}" == "--slow" ]]; then
  shift
  exec "$PYTHON" -m pytest "$@"
fi
exec "$PYTHON" -m pytest -m "not slow" "$@"
