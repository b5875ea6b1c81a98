#!/usr/bin/env bash
# Shards and trained models of a competition, as far as they are missing:
#   bash run_training.sh [COMPETITION DATA_DIR [RUN_DIR]]        without arguments the embedded demo
# Writes RUN_DIR (runs/COMPETITION): records/ with the shards, models/RECIPE/ for each recipe that
# configs/COMPETITION/run.flags names, geo_prior/ where it is to have one. These win over run.flags, and are flags of run.py
# too (--recipes=…), which win over them:
#   RECIPES="configs/…/a.flags b.flags"  these recipes, with the run.flags beside them; auto: picked by the data
#   TRAIN_FLAGS="--batch_size=16 …"      flags after each recipe's, which win (also --flagfile=OVERRIDES.flags)
#   RECORD_FLAGS="--max_side=512 …"      flags for create_tfrecords.py
#   GEO_PRIOR=FLAGFILE                   that recipe for the geo prior; none: no geo prior
#   FOLDS=5                              folds, where a recipe trains by folds (--fold=…)
#   LOCALIZE_FLAGS="--size=448 …"        flags for localize.py, where a recipe trains on boxes
#   MEMBERS="fine"                       the recipes that are scored and submitted, by name; the others are trained alone
# A recipe with --boxes=NAME trains on what models/NAME looks at: the recipe of that name stands before it.
#   PYTHON=…                             that interpreter as it is, instead of .venv
# --dry_run prints what stands and what is to be done.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
CALLER_DIR=$PWD
cd "$here"
source environment.sh
cd "$CALLER_DIR"
exec "$PYTHON" "$here/run.py" --until=models "$@"
