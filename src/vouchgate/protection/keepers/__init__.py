"""One file per keeper: how a data key is wrapped under a key-encryption key, bound to what it is for.

A file here defines `KEEPER = Keeper(...)`, and nothing else needs to change.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from vouchgate.vocabulary.wire import Noun


class Binding(Noun, frozen=True, kw_only=True):
    """What a data key is for; it opens under exactly the same binding and no other."""

    trust_domain: str
    purpose: str
    """For example `serve`, `train`."""
    zone: str
    digest: str
    """Digest text of the sealed content."""
    run: str = ""
    """Id of the one run that may use it; empty for a key that is not bound to a run."""


@dataclass(frozen=True)
class Keeper:
    """A way to wrap and unwrap."""

    name: str
    version: int
    wrap: Callable[[bytes, bytes, Binding], bytes]
    """`(key-encryption key, data key, binding) -> wrapped`. Raises `InvalidInput`."""
    unwrap: Callable[[bytes, bytes, Binding], bytes]
    """`(key-encryption key, wrapped, binding) -> data key`. Raises `Unverified` unless all three belong together."""
    summary: str = ""
    """One line for the catalog."""
