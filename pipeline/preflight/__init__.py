"""Compiles a recipe's steps for a TPU that is not there, and tells what they would need."""
