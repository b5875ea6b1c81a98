"""The model to hand over: what made predictions as one SavedModel, and what answers with it by TensorFlow and Pillow alone."""
