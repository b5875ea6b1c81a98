"""The model to hand over: what made predictions as one SavedModel, and what answers by it with TensorFlow and Pillow."""
