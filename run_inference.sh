#!/usr/bin/env bash
# From raw files to the competition's CSV, making what is missing on the way:
#   bash run_inference.sh [COMPETITION DATA_DIR [RUN_DIR]]       without arguments the embedded demo
# As run_training.sh (see there for RECIPES, TRAIN_FLAGS, RECORD_FLAGS, GEO_PRIOR, FOLDS, LOCALIZE_FLAGS and PYTHON), then
# predictions of every model with its recipe's test-time augmentation, scores, a report, and RUN_DIR/submission.csv by the
# same models and priors; submission.meta.json tells them.
#   PREDICT_FLAGS="--tta=flip …"         flags for predict.py
#   PRIOR_FLAGS="--prior_correction=1 …" flags for evaluate.py and make_submission.py alike (also --geo_exponent=fit)
#   SUBMISSION_FLAGS="--open_set=sum …"  flags for make_submission.py alone
# --dry_run prints what stands and what is to be done.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
CALLER_DIR=$PWD
cd "$here"
source environment.sh
cd "$CALLER_DIR"
exec "$PYTHON" "$here/run.py" "$@"
