"""Several runs of one experiment: folds, a process each, and their table."""
