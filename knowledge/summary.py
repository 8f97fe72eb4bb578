"""Summary: what the judge needs to know of a module's source, and nothing else; small enough to keep for every wheel ever read.

Names are as written in the source (`np.log`), to be resolved later against the module's own imports (resolve.py).
"""

from __future__ import annotations

import msgspec


class Function(msgspec.Struct, frozen=True, omit_defaults=True):
    """What one function's body refers to; nested functions, lambdas and classes count as part of it."""

    refs: tuple[str, ...] = ()
    """Dotted names that begin at a global, a builtin or an import: wherever they stand, they may be called."""
    selfs: tuple[str, ...] = ()
    """Attributes taken from the first parameter."""
    supers: tuple[str, ...] = ()
    """Attributes taken from `super()`."""
    methods: tuple[str, ...] = ()
    """Attributes taken from values that are not known here; `name()` where it is only ever called without arguments,
    `name(1)` beside it where one value is all that it is called with, and with a `*` where only a part of it is fixed."""
    imports: dict[str, str] = {}
    """Names imported inside the body."""
    flags: tuple[str, ...] = ()
    """`get`: getattr by a computed name on a value; `get-self`: on the first parameter; `set`: setattr or delattr by a computed name; `patch`:
    writes to a global's attribute or item; `type`: calls the type of a value; `self-call`: calls the first parameter; `item-call`: calls what
    lay in a container; `picked` and `picked-self`: picking.py."""
    bare: bool = False
    """Can be called with nothing but its first parameter."""
    kind: str = ""
    """`class`, `static`, `property`, `setter` by its decorators; else empty."""


class Class(msgspec.Struct, frozen=True, omit_defaults=True):
    """A class."""

    bases: tuple[str, ...] = ()
    """As written; `?` for an expression."""
    metaclass: str = ""
    methods: dict[str, tuple[Function, ...]] = {}
    """Several under one name: a property with its setter, or definitions under conditions."""
    assigned: dict[str, tuple[str, ...]] = {}
    """Class attributes and the names in the expression they are made of."""
    decorators: tuple[str, ...] = ()


class Module(msgspec.Struct, frozen=True, omit_defaults=True):
    """A module."""

    package: bool = False
    imports: dict[str, str] = {}
    """Name -> absolute dotted target."""
    stars: tuple[str, ...] = ()
    functions: dict[str, tuple[Function, ...]] = {}
    classes: dict[str, tuple[Class, ...]] = {}
    assigned: dict[str, tuple[str, ...]] = {}
    """Module attributes and the names in the expression they are made of; a single name alone is an alias."""
    aliases: tuple[str, ...] = ()
    """Those of `assigned` that are nothing but another name."""
    tuples: tuple[str, ...] = ()
    """Those of `assigned` that are made by `namedtuple(...)`."""
    lazy: bool = False
    """Has a `__getattr__` of its own."""


class Wheel(msgspec.Struct, frozen=True):
    """All modules of one wheel, and its modules without source."""

    modules: dict[str, Module]
    natives: tuple[str, ...]
