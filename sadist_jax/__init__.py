"""Distil, adapt and label with Segment Anything, in JAX."""

__version__ = "0.1.0"
