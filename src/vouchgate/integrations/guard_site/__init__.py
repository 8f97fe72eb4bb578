"""A folder for PYTHONPATH: every Python that finds it starts guarded (`vouchgate run --guard`)."""
