"""Measurements, and recipes beside what was published: python -m benchmarks.NAME from the project's folder."""

import pipeline  # noqa: F401  (before a measurement imports TensorFlow: it settles which Keras tf.keras is)
