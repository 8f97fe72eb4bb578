"""vouchgate: zero trust for AI systems, decided on fresh, signed evidence."""

__version__ = "0.1.0"
