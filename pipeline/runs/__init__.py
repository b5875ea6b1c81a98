"""A run as plain data: its stages, their plan, run.json, and checkpoints. Trains nothing."""
