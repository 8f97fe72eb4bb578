"""Resolve: what a name written in some module stands for, through imports and aliases, across wheels; by text alone, nothing is imported.

Rules
1. An attribute of a package comes before its submodule of the same name, as at run time.
2. A name made by an expression is a `value`: whoever uses it uses every name of that expression.
3. What cannot be found is `unknown`; a module that makes its names in `__getattr__` has only those that are written down.
"""

from __future__ import annotations

import builtins
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from knowledge.summary import Class, Function, Module, Wheel

Sort = Literal["function", "class", "method", "value", "module", "native", "builtin", "library", "unknown"]
MAX_HOPS = 60
"""Imports and aliases followed for one name; a chain in a library has about ten."""


@dataclass(frozen=True, slots=True)
class Target:
    """What a name stands for."""

    sort: Sort
    module: str
    """For `native`, `library`, `builtin` and `unknown`: the whole dotted name."""
    name: str = ""
    attribute: str = ""
    """For `method`."""


@dataclass
class Universe:
    """All modules that can be looked into."""

    modules: dict[str, Module] = field(default_factory=dict)
    natives: set[str] = field(default_factory=set)
    tops: set[str] = field(default_factory=set)
    left_out: re.Pattern[str] = re.compile(r"(?!)")
    """Modules that were not read on purpose."""
    _known: dict[tuple[str, str], Target] = field(default_factory=dict)

    def add(self, wheel: Wheel) -> None:
        """A wheel more; of two that have the same module the first counts."""
        for name, module in wheel.modules.items():
            self.modules.setdefault(name, module)
            self.tops.add(name.partition(".")[0])
        self.natives |= set(wheel.natives)
        self.tops |= {name.partition(".")[0] for name in wheel.natives}

    def resolve(self, module: str, written: str, imports: Mapping[str, str] = {}) -> Target:
        """What `written` stands for in a function of `module` that imports `imports` itself."""
        head, _, rest = written.partition(".")
        if head in imports:
            return self._imported(imports[head], rest.split(".") if rest else [], MAX_HOPS)
        key = (module, written)
        found = self._known.get(key)
        if found is None:
            found = self._known[key] = self._in_module(module, written.split("."), MAX_HOPS)
        return found

    def absolute(self, path: str, hops: int = MAX_HOPS) -> Target:
        """What a whole dotted name stands for."""
        parts = path.split(".")
        if self.left_out.match(path):
            return Target("unknown", path)
        if parts[0] in self.modules:
            return self._in_module(parts[0], parts[1:], hops, local=False)
        if parts[0] in self.tops:
            return self._deeper(path, parts)
        if parts[0] == "builtins" and len(parts) > 1:
            return Target("builtin", parts[1])
        return Target("library", path)

    def _imported(self, target: str, rest: list[str], hops: int) -> Target:
        """What `from a.b import c` binds: `a.b` is the module of that name, whatever its package calls so."""
        parent, _, last = target.rpartition(".")
        if parent in self.modules and not self.left_out.match(target):
            return self._in_module(parent, [last, *rest], hops, local=False)
        return self.absolute(".".join([target, *rest]), hops)

    def _deeper(self, path: str, parts: list[str]) -> Target:
        for end in range(len(parts), 0, -1):
            prefix = ".".join(parts[:end])
            if prefix in self.modules:
                return self._in_module(prefix, parts[end:], MAX_HOPS, local=False)
            if prefix in self.natives:
                return Target("native", path)
        return Target("unknown", path)

    def _in_module(self, name: str, parts: list[str], hops: int, *, local: bool = True) -> Target:
        if not parts:
            return Target("module", name)
        module = self.modules.get(name)
        if module is None or hops <= 0:
            return Target("unknown", ".".join([name, *parts]))
        first, rest = parts[0], parts[1:]
        if first in module.classes:
            return self._in_class(name, module, first, rest)
        if first in module.functions:
            return Target("function", name, first)
        target = module.imports.get(first)
        if target is not None and target != f"{name}.{first}":
            return self._imported(target, rest, hops - 1)
        if first in module.aliases and module.assigned[first][0].partition(".")[0] != first:
            return self._in_module(name, [*module.assigned[first][0].split("."), *rest], hops - 1)
        if first in module.assigned:
            return Target("value", name, first, ".".join(rest))
        below = f"{name}.{first}"
        if self.left_out.match(below):
            return Target("unknown", ".".join([name, *parts]))
        if below in self.modules:
            return self._in_module(below, rest, hops - 1, local=False)
        if below in self.natives:
            return Target("native", ".".join([name, *parts]))
        return self._elsewhere(name, module, parts, hops, local=local)

    def _elsewhere(self, name: str, module: Module, parts: list[str], hops: int, *, local: bool) -> Target:
        for star in module.stars:
            found = Target("native", f"{star}.{'.'.join(parts)}") if star in self.natives else Target("unknown", "")
            if star in self.modules:
                found = self._in_module(star, parts, hops - 1, local=False)
            if found.sort != "unknown":
                return found
        if local and hasattr(builtins, parts[0]):
            return Target("builtin", parts[0])
        if local and parts[0] in ("__name__", "__file__", "__doc__", "__class__"):
            return Target("builtin", parts[0])
        return Target("unknown", ".".join([name, *parts]))

    def _in_class(self, name: str, module: Module, first: str, rest: list[str]) -> Target:
        if not rest:
            return Target("class", name, first)
        inner = f"{first}.{rest[0]}"
        if inner in module.classes:
            return self._in_class(name, module, inner, rest[1:])
        return Target("method", name, first, rest[0])

    def the_class(self, module: str, name: str) -> tuple[Class, ...]:
        """Its definitions."""
        return self.modules[module].classes[name]

    def the_function(self, module: str, name: str) -> tuple[Function, ...]:
        """Its definitions."""
        return self.modules[module].functions[name]


def is_standard(path: str) -> bool:
    """Whether a dotted name begins in the standard library."""
    return path.partition(".")[0] in sys.stdlib_module_names


def universe(wheels: Iterable[Wheel], left_out: re.Pattern[str]) -> Universe:
    """All of these together."""
    made = Universe(left_out=left_out)
    for wheel in wheels:
        made.add(wheel)
    return made
