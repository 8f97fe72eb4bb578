"""The frozen nouns that every room shares, and the typed errors.

Rules: values only. Nothing here reads a clock, a file, a socket or a setting, and nothing here imports another room. A time is
`UnixMillis`, an integer count of milliseconds since 1970-01-01T00:00:00Z. Every noun is a frozen `msgspec.Struct` that refuses unknown
fields, so one pair of functions (`wire.encode`, `wire.decode`) serves every noun, in the store, on the wire and on disk.
"""
