"""The generator of the knowledge base: wheels pinned by hash, read without importing them, judged by rules, reviewed, compiled, signed."""
