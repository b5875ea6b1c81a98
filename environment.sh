# Sourced by run_*.sh: makes .venv when it is missing or made from other requirements, and sets PYTHON to its interpreter. A
# PYTHON from outside is used as it is: a TPU VM, Kaggle and Docker bring their own TensorFlow.
#
# There are two lanes, of one code and the same tests:
#   pinned   Python 3.11 or 3.10, requirements.txt         (TensorFlow 2.15.1; the lane of published figures, and of TPUs)
#   modern   Python 3.13 or 3.12, requirements-modern.txt  (TensorFlow 2.21.0 with tf-keras)
# A .venv that stands keeps its lane. Else the pinned one is taken where there is a Python for it, else the modern one;
# LANE=pinned or LANE=modern asks for one, and makes .venv anew where it is the other's. FIELDMARK_VENV=FOLDER is taken instead
# of .venv, so that both lanes may stand side by side.
# Its file `complete` tells what is installed, and is written last: an install that was cut off is made again.

: "${FIELDMARK_VENV:=.venv}"
pinned_pythons="3.11 3.10"
modern_pythons="3.13 3.12"

requirements_of() { [[ "$1" == modern ]] && echo requirements-modern.txt || echo requirements.txt; }
constraints_of() { [[ "$1" == modern ]] && echo constraints-modern.txt || echo constraints.txt; }

# What an environment of a lane is made from.
recipe_of() {
  echo "lane $1"
  cat "$(requirements_of "$1")" "$(constraints_of "$1")"
}

# Prints a Python of the lane; fails where there is none.
python_of() {
  local versions="${1}_pythons" version candidate
  for version in ${!versions}; do
    for candidate in "python$version" python3 python; do
      # Asked, not trusted by its name: a version manager's shim may stand for nothing.
      if [[ "$("$candidate" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)" == "$version" ]]; then
        echo "$candidate"
        return
      fi
    done
  done
  return 1
}

choose_lane() {
  local standing
  standing=$(sed -n '1s/^lane //p' "$FIELDMARK_VENV/complete" 2>/dev/null || true)
  case "${LANE:-}" in
    pinned | modern) ;;
    "") if [[ -n "$standing" ]]; then LANE=$standing
        elif python_of pinned >/dev/null || ! python_of modern >/dev/null; then LANE=pinned
        else LANE=modern; fi ;;
    *) echo "LANE=$LANE is unknown; there are: pinned, modern" >&2; exit 2 ;;
  esac
}

make_environment() {
  local python
  if ! python=$(python_of "$LANE"); then
    echo "no Python for the $LANE lane found (pinned: 3.11, 3.10; modern: 3.13, 3.12); install one, or set PYTHON=…" >&2
    exit 2
  fi
  if [[ "$FIELDMARK_VENV" != .venv && -e "$FIELDMARK_VENV" && ! -e "$FIELDMARK_VENV/pyvenv.cfg" ]]; then
    echo "FIELDMARK_VENV=$FIELDMARK_VENV is no environment of Python: name another folder" >&2
    exit 2
  fi
  echo "making $FIELDMARK_VENV with $("$python" --version), $LANE lane …" >&2
  rm -rf "$FIELDMARK_VENV"
  "$python" -m venv "$FIELDMARK_VENV"
  install_lane
  recipe_of "$LANE" > "$FIELDMARK_VENV/complete"
}

install_packages() {
  "$FIELDMARK_VENV/bin/python" -m pip install --quiet --disable-pip-version-check "$@"
}

# Where tensorflow-addons alone can't be had, the rest is installed: what is taken of it has a form of our own.
install_lane() {
  local requirements constraints
  requirements=$(requirements_of "$LANE") constraints=$(constraints_of "$LANE")
  if install_packages --requirement "$requirements" --constraint "$constraints" 2> "$FIELDMARK_VENV/install.log"; then
    return
  fi
  cat "$FIELDMARK_VENV/install.log" >&2
  if ! grep -q tensorflow-addons "$FIELDMARK_VENV/install.log"; then exit 1; fi
  echo "without tensorflow-addons, which can't be installed here …" >&2
  grep -v ^tensorflow-addons "$requirements" > "$FIELDMARK_VENV/without-addons.txt"
  grep -v ^tensorflow-addons "$constraints" > "$FIELDMARK_VENV/constraints.txt"
  install_packages --requirement "$FIELDMARK_VENV/without-addons.txt" --constraint "$FIELDMARK_VENV/constraints.txt"
}

# For run_tests.sh: what only the tests need, put into .venv as it stands.
add_test_packages() {
  if [[ -z "$environment_is_ours" ]] || cmp -s requirements-test.txt "$FIELDMARK_VENV/complete-test"; then
    return
  fi
  echo "adding the tests' packages to $FIELDMARK_VENV …" >&2
  install_packages --requirement requirements-test.txt --constraint "$(constraints_of "$LANE")"
  cp requirements-test.txt "$FIELDMARK_VENV/complete-test"
}

environment_is_ours=
if [[ -n "${PYTHON:-}" ]]; then
  # A path is the caller's, who may stand elsewhere than we do.
  if [[ "$PYTHON" == */* && "$PYTHON" != /* ]]; then PYTHON=$CALLER_DIR/$PYTHON; fi
else
  environment_is_ours=yes
  choose_lane
  if ! cmp -s <(recipe_of "$LANE") "$FIELDMARK_VENV/complete"; then
    make_environment
  fi
  PYTHON=$(cd "$FIELDMARK_VENV" && pwd)/bin/python
fi
