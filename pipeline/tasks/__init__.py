"""What a task is: kind, label encoding, activation, default loss and monitor, scores, what a blend minimizes. Knows metrics alone."""
