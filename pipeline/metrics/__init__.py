"""Scores of arrays: one label, several labels and their threshold, intervals, log space. Knows no files, no TensorFlow."""
