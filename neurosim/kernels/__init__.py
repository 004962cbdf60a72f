"""Compiled functions: arrays in, arrays out; they know nothing of the objects above."""
