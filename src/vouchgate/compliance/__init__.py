"""Show it: which control of which framework is met by which evidence that exists.

A framework is one TOML file in `frameworks/`, in our own wording; `catalog` loads it strictly and `coverage` holds it against the log.
Nothing here is a certificate: an answer names log entries, and a person judges them.
"""
