#!/usr/bin/env bash
# Shards and trained models of a competition, as far as they are missing:
#   bash run_training.sh [COMPETITION DATA_DIR [RUN_DIR]]        without arguments the embedded demo
# Writes RUN_DIR (runs/COMPETITION): records/ with the shards, models/RECIPE/ for each recipe configs/COMPETITION/*.flags,
# geo_prior/ where configs/geo_prior/COMPETITION.flags tells how to train one.
#   RECIPES="configs/…/a.flags b.flags"  these recipes instead of all of the competition's
#   TRAIN_FLAGS="--batch_size=16 …"      flags after each recipe's, which win (also --flagfile=OVERRIDES.flags)
#   RECORD_FLAGS="--max_side=512 …"      flags for create_tfrecords.py
#   GEO_PRIOR=FLAGFILE                   that recipe for the geo prior; none: no geo prior
#   FOLDS=5                              folds, where a recipe trains by folds (--fold=…)
#   LOCALIZE_FLAGS="--size=448 …"        flags for localize.py, where a recipe trains on boxes
# A recipe with --boxes=NAME trains on what models/NAME looks at: the recipe of that name stands before it.
#   PYTHON=…                             that interpreter as it is, instead of .venv
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/run_paths.sh"
source environment.sh

# A recipe that trains by folds wants shards by folds.
if grep -qs '^--fold=' "${recipes[@]}"; then
  RECORD_FLAGS="--folds=${FOLDS:-5} ${RECORD_FLAGS:-}"
fi
"$PYTHON" create_tfrecords.py --competition="$COMPETITION" --data_dir="$DATA_DIR" --out_dir="$RUN_DIR/records" \
  ${RECORD_FLAGS:-}
if [[ -n "$geo_recipe" ]]; then
  "$PYTHON" train_geo_prior.py --flagfile="$geo_recipe" --competition="$COMPETITION" --data_dir="$DATA_DIR" \
    --model_dir="$RUN_DIR/geo_prior"
fi
for recipe in "${recipes[@]}"; do
  boxes=$(sed -n 's/^--boxes=//p' "$recipe" 2>/dev/null | tail -n 1)
  if [[ -n "$boxes" ]]; then
    "$PYTHON" localize.py --data_dir="$RUN_DIR/records" --model_dir="$RUN_DIR/models/$boxes" --name="$boxes" \
      --contact_sheet="$RUN_DIR/boxes_$boxes.png" ${LOCALIZE_FLAGS:-}
  fi
  "$PYTHON" multi_stage_train.py --flagfile="$recipe" --data_dir="$RUN_DIR/records" \
    --model_dir="$RUN_DIR/models/$(basename "$recipe" .flags)" ${TRAIN_FLAGS:-}
done
echo "trained models: $RUN_DIR/models${geo_recipe:+, $RUN_DIR/geo_prior}"
