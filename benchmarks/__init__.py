"""Measurements, and recipes beside what was published: python -m benchmarks.NAME from the project's folder."""
