"""What a task is: kind, labels, activation, default loss and monitor, scores, what a blend minimizes. Knows metrics alone."""
