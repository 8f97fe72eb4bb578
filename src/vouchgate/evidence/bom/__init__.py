"""Bills of materials: CycloneDX documents of a model, the Python environment around it, and what both leave open."""
