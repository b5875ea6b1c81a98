#!/usr/bin/env bash
# From raw files to the competition's CSV, making what is missing on the way:
#   bash run_inference.sh [COMPETITION DATA_DIR [RUN_DIR]]       without arguments the embedded demo
# As run_training.sh (see there for RECIPES, TRAIN_FLAGS, RECORD_FLAGS, GEO_PRIOR, FOLDS, LOCALIZE_FLAGS and PYTHON), then
# predictions of every model with its recipe's test-time augmentation, scores, a report, and RUN_DIR/submission.csv from
# the mean of the models, with the geo prior where one was trained.
#   PREDICT_FLAGS="--tta=flip …"         flags for predict.py
#   PRIOR_FLAGS="--prior_correction=1 …" flags for evaluate.py and make_submission.py alike (also --geo_exponent=fit)
#   SUBMISSION_FLAGS="--open_set=sum …"  flags for make_submission.py alone
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/run_paths.sh"
source environment.sh
export PYTHON

bash run_training.sh "$COMPETITION" "$DATA_DIR" "$RUN_DIR"

has_split() {
  "$PYTHON" -c 'import sys; from pipeline.records import dataset; sys.exit(sys.argv[2] not in dataset.load(sys.argv[1]).manifest.splits)' \
    "$RUN_DIR/records" "$1"
}
test_predictions=() scored_predictions=() demo_predictions=() blend=equal
with_geo=${geo_recipe:+--geo_prior=$RUN_DIR/geo_prior}
for recipe in "${recipes[@]}"; do
  model=$RUN_DIR/models/$(basename "$recipe" .flags)
  if [[ -d "$model/out_of_fold" ]]; then
    # Models by folds are scored by what each fold predicts of the pictures that it held out.
    scored_predictions+=("--predictions=$model/out_of_fold") blend=oof
  elif has_split val; then
    "$PYTHON" predict.py --data_dir="$RUN_DIR/records" --split=val --model_dir="$model" ${PREDICT_FLAGS:-}
    scored_predictions+=("--predictions=$model/predictions/val")
  fi
  if has_split test; then
    "$PYTHON" predict.py --data_dir="$RUN_DIR/records" --split=test --model_dir="$model" ${PREDICT_FLAGS:-}
    test_predictions+=("--predictions=$model/predictions/test")
    if [[ "$COMPETITION" == demo ]]; then
      # By one view too, so that the scores below tell what the views bring.
      "$PYTHON" predict.py --data_dir="$RUN_DIR/records" --split=test --model_dir="$model" ${PREDICT_FLAGS:-} --tta=none \
        --out="$model/predictions/test_one_view"
      demo_predictions+=("--without_tta=$model/predictions/test_one_view")
    fi
  fi
done
if [[ ${#scored_predictions[@]} -gt 0 ]]; then
  "$PYTHON" evaluate.py --data_dir="$RUN_DIR/records" "${scored_predictions[@]}" --blend="$blend" \
    ${with_geo:+"$with_geo"} ${PRIOR_FLAGS:-} --out="$RUN_DIR/scores.json" --report="$RUN_DIR/report.html"
fi
if [[ ${#test_predictions[@]} -gt 0 ]]; then
  if [[ "$COMPETITION" == demo ]]; then
    # The demo's organiser is ourselves: its test pictures can be scored too.
    "$PYTHON" evaluate.py --data_dir="$RUN_DIR/records" "${test_predictions[@]}" "${demo_predictions[@]}" \
      ${with_geo:+"$with_geo"} ${PRIOR_FLAGS:-} --out="$RUN_DIR/test_scores.json"
  fi
  "$PYTHON" make_submission.py --data_dir="$RUN_DIR/records" "${test_predictions[@]}" \
    ${with_geo:+"$with_geo"} ${PRIOR_FLAGS:-} --out="$RUN_DIR/submission.csv" ${SUBMISSION_FLAGS:-}
fi
echo "shards:       $RUN_DIR/records"
echo "models:       $RUN_DIR/models"
if [[ ${#scored_predictions[@]} -gt 0 ]]; then
  echo "scores:       $RUN_DIR/scores.json, $RUN_DIR/report.html"
fi
if [[ ${#test_predictions[@]} -gt 0 ]]; then
  echo "predictions:  $RUN_DIR/models/*/predictions"
  echo "submission:   $RUN_DIR/submission.csv"
else
  echo "submission:   none, for want of test pictures"
fi
