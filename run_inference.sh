#!/usr/bin/env bash
# From raw files to the competition's CSV, making what is missing on the way:
#   bash run_inference.sh [COMPETITION DATA_DIR [RUN_DIR]]       without arguments the embedded demo
# As run_training.sh (see there for RECIPES, TRAIN_FLAGS, RECORD_FLAGS and PYTHON), then predictions of every model
# with its recipe's test-time augmentation, scores, and RUN_DIR/submission.csv from the mean of the models.
#   PREDICT_FLAGS="--tta=flip …"         flags for predict.py
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/run_paths.sh"
source environment.sh
export PYTHON

bash run_training.sh "$COMPETITION" "$DATA_DIR" "$RUN_DIR"
has_split() {
  "$PYTHON" -c 'import sys; from pipeline import dataset; sys.exit(sys.argv[2] not in dataset.load(sys.argv[1]).manifest.splits)' \
    "$RUN_DIR/records" "$1"
}
predictions_of() {  # the --predictions flag of every recipe's model for split $1
  local recipe
  for recipe in $RECIPES; do
    echo "--predictions=$RUN_DIR/models/$(basename "$recipe" .flags)/predictions/$1"
  done
}
for split in val test; do
  has_split "$split" || continue
  for recipe in $RECIPES; do
    "$PYTHON" predict.py --data_dir="$RUN_DIR/records" --split="$split" \
      --model_dir="$RUN_DIR/models/$(basename "$recipe" .flags)" ${PREDICT_FLAGS:-}
  done
done
if has_split val; then
  "$PYTHON" evaluate.py --data_dir="$RUN_DIR/records" $(predictions_of val) --out="$RUN_DIR/scores.json"
fi
if ! has_split test; then
  echo "no test split, so no submission; trained models: $RUN_DIR/models, scores: $RUN_DIR/scores.json"
  exit 0
fi
if [[ "$COMPETITION" == demo ]]; then
  # The demo's organiser is ourselves: its test pictures can be scored too.
  "$PYTHON" evaluate.py --data_dir="$RUN_DIR/records" $(predictions_of test)
fi
"$PYTHON" make_submission.py --data_dir="$RUN_DIR/records" $(predictions_of test) --out="$RUN_DIR/submission.csv"
echo "shards:       $RUN_DIR/records"
echo "models:       $RUN_DIR/models"
echo "predictions:  $RUN_DIR/models/*/predictions"
echo "scores:       $RUN_DIR/scores.json (val)"
echo "submission:   $RUN_DIR/submission.csv"
