"""Disarm: rebuilds an artifact from the tensors and plain values that it holds."""
