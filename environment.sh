# Sourced by run_*.sh: makes .venv when it is missing or made from another requirements.txt, and sets PYTHON to its
# interpreter. A PYTHON from outside is used as it is: a TPU VM, Kaggle and Docker bring their own TensorFlow.
# What is installed is told by copies of the requirements in .venv, written last: an install that was cut off is made again.

fitting_python() {
  local candidate
  for candidate in python3.11 python3.10 python3 python; do
    # Asked, not trusted by its name: a version manager's shim may stand for nothing.
    if "$candidate" -c 'import sys; sys.exit(sys.version_info[:2] not in ((3, 10), (3, 11)))' 2>/dev/null; then
      echo "$candidate"
      return
    fi
  done
  echo "no Python 3.10 or 3.11 found (TensorFlow 2.15 takes no other); install one, or set PYTHON=…" >&2
  return 2
}

make_environment() {
  local python
  python=$(fitting_python) || exit 2
  echo "making .venv with $("$python" --version) …" >&2
  rm -rf .venv
  "$python" -m venv .venv
  install_packages --requirement requirements.txt
  cp requirements.txt .venv/complete
}

install_packages() {
  .venv/bin/python -m pip install --quiet --disable-pip-version-check "$@"
}

# For run_tests.sh: what only the tests need, put into .venv as it stands.
add_test_packages() {
  if [[ -z "$environment_is_ours" ]] || cmp -s requirements-test.txt .venv/complete-test; then
    return
  fi
  echo "adding the tests' packages to .venv …" >&2
  install_packages --requirement requirements-test.txt --constraint requirements.txt  # which they must not change
  cp requirements-test.txt .venv/complete-test
}

environment_is_ours=
if [[ -n "${PYTHON:-}" ]]; then
  # A path is the caller's, who may stand elsewhere than we do.
  if [[ "$PYTHON" == */* && "$PYTHON" != /* ]]; then PYTHON=$CALLER_DIR/$PYTHON; fi
else
  environment_is_ours=yes
  if ! cmp -s requirements.txt .venv/complete; then
    make_environment
  fi
  PYTHON=$PWD/.venv/bin/python
fi
