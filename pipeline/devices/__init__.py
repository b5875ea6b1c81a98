"""Where a step runs: strategy and hosts, made before TensorFlow computes anything."""
