# Sourced by run_training.sh and run_inference.sh: reads [COMPETITION DATA_DIR [RUN_DIR]], enters the project's folder.

absolute() {  # of a path as the caller wrote it; gs://… stays
  case $1 in
    /* | *://*) echo "$1" ;;
    *) echo "$PWD/$1" ;;
  esac
}
if [[ $# -eq 0 ]]; then
  COMPETITION=demo DATA_DIR=runs/demo/raw RUN_DIR=runs/demo
elif [[ $# -eq 2 || $# -eq 3 ]]; then
  COMPETITION=$1 DATA_DIR=$(absolute "$2") RUN_DIR=runs/$1
  if [[ $# -eq 3 ]]; then RUN_DIR=$(absolute "$3"); fi
else
  echo "usage: bash $(basename "$0") [COMPETITION DATA_DIR [RUN_DIR]]" >&2
  exit 2
fi
cd "$(dirname "${BASH_SOURCE[0]}")"
# A recipe is one experiment: every configs/COMPETITION/*.flags, or the demo's one.
if [[ -z "${RECIPES:-}" ]]; then
  if [[ -f "configs/$COMPETITION.flags" ]]; then
    RECIPES=configs/$COMPETITION.flags
  elif compgen -G "configs/$COMPETITION/*.flags" >/dev/null; then
    RECIPES=$(echo configs/"$COMPETITION"/*.flags)
  else
    echo "no recipe configs/$COMPETITION/*.flags; name one by RECIPES=… (there are recipes for:" \
      "$(cd configs && ls -d -- */ | grep -v overrides | tr -d '/' | tr '\n' ' ')demo)" >&2
    exit 2
  fi
fi
