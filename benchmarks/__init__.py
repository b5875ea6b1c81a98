"""Measurements, run as python -m benchmarks.NAME from the project's folder."""
