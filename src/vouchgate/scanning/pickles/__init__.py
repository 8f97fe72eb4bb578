"""The pickle machine: interprets pickles to values without importing or calling anything."""
