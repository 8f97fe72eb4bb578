"""One TOML file per framework; a file here is in, and nothing else needs to change."""
