"""Models: one table of names, input scaling, the classifier, and weights from elsewhere."""
