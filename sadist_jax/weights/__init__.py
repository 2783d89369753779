"""Weights on disk, NumPy only: PyTorch's `.pth` without PyTorch, safetensors, and digests of both."""
