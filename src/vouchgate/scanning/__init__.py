"""IS IT SAFE: reads artifacts without running them. `scan.scan` is the way in; `formats/` holds one file a format."""
