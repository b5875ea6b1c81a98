"""Pixels: decode, crops, augmentations, mixing, views. Pure functions of (picture, seed)."""
