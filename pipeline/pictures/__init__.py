"""Pictures as people bring them: the bytes of any file that Pillow opens → upright RGB. Knows no TensorFlow, no records."""
