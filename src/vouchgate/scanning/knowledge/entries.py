"""Entries of the knowledge base: one name that a serialised object may refer to, and for which uses.

Rules
1. A name is (module, qualified name), exactly; nothing is resolved through a re-export, a prefix or a package.
2. `inert`: may be held as a value. Whatever holds it may call it later, so a function is inert only if calling it with any arguments acts on
   nothing but them. `constructible`: `cls.__new__(cls)` and then its state (NEWOBJ, BUILD), without `__init__`. `callable`: may be called while
   loading (REDUCE and its kin), with arguments of the named shape.
3. What is not found is not known, and so refused.
"""

from __future__ import annotations

from typing import Literal, Protocol

from vouchgate.vocabulary.wire import Noun

Use = Literal["inert", "constructible", "callable"]


class Entry(Noun, frozen=True, kw_only=True):
    """One name."""

    module: str
    name: str
    """Qualified name inside the module; a dot only for a class inside a class."""
    uses: tuple[Use, ...]
    arguments: str = ""
    """For `callable`: the rule its arguments must fit, a name of pickles/shapes; empty fits nothing."""
    state: str = ""
    """For `constructible`: the rule its BUILD state must fit; empty is `attributes`, a dict (or a pair of dicts) of plain attribute names."""
    library: str
    """Distribution it comes from (`scikit-learn`), `python` for the standard library."""
    versions: tuple[str, str] = ("", "")
    """First and last version it was seen in."""
    wheel: str = ""
    """SHA-256 of the newest wheel it was read from, hexadecimal; empty for the standard library."""
    reviewer: str = ""
    """Who let it in: a role's key name, or `generated` for what the rules alone let in."""
    since: int = 1
    """Version of the knowledge base that first had it."""
    why: str = ""
    """For what a person let in: what it does, and why that is harmless."""


class Knowledge(Protocol):
    """The knowledge base as the readers see it."""

    @property
    def version(self) -> int:
        """Only rises."""

    @property
    def digest(self) -> str:
        """SHA-256 over all of it, overlay included, hexadecimal: part of every verdict."""

    @property
    def fault(self) -> str:
        """Why it could not be read or verified; empty where it was. With a fault no scan is clean."""

    def find(self, module: str, name: str) -> Entry | None:
        """The entry of exactly this name."""


class Nothing:
    """Knows no name: every pickle that refers to any is refused."""

    version: int = 0
    digest: str = "0" * 64
    fault: str = ""

    def find(self, module: str, name: str) -> Entry | None:
        """None."""
        del module, name
        return None
