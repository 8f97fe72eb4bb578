"""Instruments: a model server with an exact delay, clients, probers, plain hops and peers. They know nothing of vouchgate's inside."""
