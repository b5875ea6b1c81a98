"""Predictions on disk and all that is put on top: fusion, blend, priors, open set, thresholds, ranking."""
