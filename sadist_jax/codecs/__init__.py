"""Formats and host geometry, numpy and Pillow only: what data, predict, evals and conversion share."""
