# Sourced by run_training.sh and run_inference.sh: reads [COMPETITION DATA_DIR [RUN_DIR]], enters the project's folder.

CALLER_DIR=$PWD
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
# A recipe is one experiment: RECIPES (separated by spaces), else every configs/COMPETITION/*.flags, else configs/base.flags.
shopt -s nullglob
if [[ -n "${RECIPES:-}" ]]; then
  read -r -a recipes <<<"$RECIPES"
elif [[ -f "configs/$COMPETITION.flags" ]]; then
  recipes=("configs/$COMPETITION.flags")
else
  recipes=(configs/"$COMPETITION"/*.flags)
fi
if [[ ${#recipes[@]} -eq 0 ]]; then
  echo "no recipes in configs/$COMPETITION/: using configs/base.flags" >&2
  recipes=(configs/base.flags)
fi
# The geo prior's recipe: GEO_PRIOR (none: without), else configs/geo_prior/COMPETITION.flags where there is one.
geo_recipe=${GEO_PRIOR:-configs/geo_prior/$COMPETITION.flags}
if [[ "$geo_recipe" == none || ( -z "${GEO_PRIOR:-}" && ! -f "$geo_recipe" ) ]]; then
  geo_recipe=
fi
