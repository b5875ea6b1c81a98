"""Scores of predictions: by themselves, with parts taken away, with intervals, as a report."""
