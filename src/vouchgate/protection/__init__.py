"""Keep it secret: who may open a data key, and under what binding.

A keeper is one pure file in `keepers/`: bytes in, bytes out. Where a key-encryption key comes from, and who may ask for it, is decided and
fetched by others.
"""
