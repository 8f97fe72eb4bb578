"""The token service over HTTPS: one resource a file; it carries, and the control plane decides."""
