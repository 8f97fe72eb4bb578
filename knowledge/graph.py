"""Graph: what a function, a method of a class, or the making of an instance may reach, and what speaks against each.

Rules
1. A node is a function, a method as seen from one concrete class, or a class being made. An edge is a name that may be called (source.py).
2. `self.x` is every definition of `x` in the class and its ancestors: which of them runs is not asked.
3. A value that comes from the pickle may be called and asked for attributes: it is itself in the knowledge base, so that what it does was judged
   there. What an instance asks itself for, and no class of its own defines, is such a value. Of values, only attributes by which files, networks or
   code are reached count against whoever takes them (rules.toml, `methods`). A value may also be an instance that the same function made: of every
   class that it refers to, the methods that it takes from any value are `made` edges, which are followed where that is asked for.
4. What a person accepted is not followed, by where it is written: a class that overrides an accepted method is followed.
5. Marks: `code` runs what it is given; `outside` acts on files, processes, networks, the interpreter; `foreign` is of a library that was
   not read; `unknown` cannot be found or looked into; `dynamic`
   takes an attribute by a computed name or calls the type of a value; `patch` writes to a module; `picked` hands on or calls what it took by a
   computed name, `picked-self` the same of its own attributes (picking.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from knowledge.resolve import Target, Universe
from knowledge.rules import Rules
from knowledge.summary import Class, Function

Node = tuple[str, str, str, str]
"""(`f`, module, function, ``), (`m`, module, class, method), (`c`, module, class, ``), (`v`, module, name, ``)."""
MAKERS = ("__new__", "__init__", "__post_init__", "__attrs_post_init__")
PLAIN_BASES = frozenset(
    {
        "object", "dict", "list", "tuple", "set", "frozenset", "int", "float", "str", "bytes", "complex",
        "abc.ABC", "typing.Generic", "typing.Protocol", "typing.NamedTuple", "collections.OrderedDict", "collections.defaultdict",
        "collections.Counter", "collections.UserDict", "collections.UserList", "collections.deque", "typing.TypedDict", "enum.Enum", "enum.IntEnum",
        "enum.StrEnum", "enum.Flag", "enum.IntFlag", "typing_extensions.Protocol", "typing_extensions.TypedDict", "typing.Dict", "typing.List",
        "typing.Mapping", "typing.Sequence", "typing.Iterable", "typing.Callable", "typing.MutableMapping", "typing.MutableSequence",
        "collections.abc.Mapping", "collections.abc.MutableMapping", "collections.abc.Sequence", "collections.abc.MutableSequence",
        "collections.abc.Callable", "collections.abc.Iterable", "collections.abc.Sized", "collections.abc.Hashable", "collections.abc.Set",
        "collections.abc.Iterator", "collections.abc.Collection", "collections.abc.Container", "datetime.tzinfo", "datetime.date", "datetime.datetime",
        "datetime.timedelta", "json.JSONEncoder", "contextlib.ContextDecorator", "contextlib.AbstractContextManager",
    }
)  # fmt: skip
"""Classes outside the judged sources that a judged class may derive from: their own construction acts on nothing."""

_OF_FLAG = {"get": "dynamic", "set": "dynamic", "type": "dynamic", "patch": "patch", "picked": "picked", "picked-self": "picked-self"}
PLAIN_METACLASSES = frozenset({"abc.ABCMeta", "enum.EnumMeta", "enum.EnumType", "typing.GenericMeta", "type"})
_MEDDLES = frozenset(
    {"__call__", "__getattribute__", "__getattr__", "__setattr__", "__iter__", "__getitem__", "__len__", "__eq__", "__hash__", "__del__"}
)
"""What a metaclass may not define: it would run wherever its classes are merely used."""


@dataclass(frozen=True)
class Mark:
    """What speaks against a node."""

    sort: str
    why: str


@dataclass
class Graph:
    """Nodes are looked into when they are first reached."""

    universe: Universe
    rules: Rules
    marks: dict[Node, list[Mark]] = field(default_factory=dict)
    edges: dict[Node, list[Node]] = field(default_factory=dict)
    made: dict[Node, list[Node]] = field(default_factory=dict)
    _ancestors: dict[tuple[str, str], list[tuple[str, str, Class]] | None] = field(default_factory=dict)

    def look(self, node: Node) -> None:
        """Know a node's own marks and edges."""
        if node in self.marks:
            return
        self.marks[node] = []
        self.edges[node] = []
        kind, module, name, attribute = node
        if kind == "f":
            if self.rules.is_code(f"{module}.{name}"):
                self._mark(node, "code", f"{module}.{name}")
            for function in self.universe.the_function(module, name):
                self._body(node, function, module, None)
        elif kind == "v":
            self._names(node, module, self.universe.modules[module].assigned[name], {})
        elif kind == "m":
            self._method(node, (module, name), attribute)
        else:
            self._made(node, (module, name))

    def ancestors(self, module: str, name: str) -> list[tuple[str, str, Class]] | None:
        """The class and all it derives from; None where a base cannot be looked into."""
        key = (module, name)
        if key not in self._ancestors:
            self._ancestors[key] = None
            self._ancestors[key] = self._all_bases(module, name)
        return self._ancestors[key]

    def has(self, module: str, name: str, attribute: str) -> bool:
        """Whether the class or an ancestor defines it."""
        return any(attribute in cls.methods or attribute in cls.assigned for _, _, cls in self.ancestors(module, name) or ())

    def _all_bases(self, module: str, name: str) -> list[tuple[str, str, Class]] | None:
        found: dict[tuple[str, str], list[tuple[str, str, Class]]] = {}
        result: list[tuple[str, str, Class]] = []
        for cls in self.universe.the_class(module, name):
            result.append((module, name, cls))
            if cls.metaclass and not self._plain_metaclass(module, cls.metaclass):
                return None
            for base in cls.bases:
                above = self._base(module, base)
                if above is None:
                    return None
                for one in above:
                    found.setdefault((one[0], one[1]), []).append(one)
        for group in found.values():
            result += [one for index, one in enumerate(group) if one not in group[:index]]
        return result

    def _is_native(self, module: str, name: str) -> bool:
        """Whether it derives from a class without source, whose methods are then its own; all else that it asks itself for lies in its state."""
        return any(
            self.universe.resolve(where, base).sort not in ("class", "library", "builtin")
            for where, _, cls in self.ancestors(module, name) or ()
            for base in cls.bases
        )

    def _base(self, module: str, written: str) -> list[tuple[str, str, Class]] | None:
        target = self.universe.resolve(module, written)
        if target.sort == "class":
            return self.ancestors(target.module, target.name)
        if target.sort in ("library", "builtin"):
            plain = target.module in PLAIN_BASES or (
                target.sort == "builtin" and not self.rules.of_builtin(target.module) and target.module[0].isupper()
            )
            return [] if plain else None
        if target.sort == "native" and self.rules.is_base(target.module):
            return []
        if target.sort == "value" and target.name in self.universe.modules[target.module].tuples:
            return []
        return None

    def _plain_metaclass(self, module: str, written: str) -> bool:
        target = self.universe.resolve(module, written)
        if target.sort == "class":
            return all(
                not _MEDDLES & (set(cls.methods) | set(cls.assigned))
                and all(self._plain_metaclass(target.module, base) for base in cls.bases)
                for cls in self.universe.the_class(target.module, target.name)
            )
        return target.module in PLAIN_METACLASSES or (target.sort == "native" and target.module.startswith("torch._C."))

    def _method(self, node: Node, concrete: tuple[str, str], attribute: str) -> None:
        for module, _, cls in self.ancestors(*concrete) or ():
            for function in cls.methods.get(attribute, ()):
                self._body(node, function, module, concrete)
            if attribute in cls.assigned:
                self._names(node, module, cls.assigned[attribute], {}, concrete)

    def _made(self, node: Node, concrete: tuple[str, str]) -> None:
        if self.ancestors(*concrete) is None:
            self._mark(node, "unknown", f"a base of {concrete[0]}.{concrete[1]}")
        if self.rules.is_code(".".join(concrete)):
            self._mark(node, "code", ".".join(concrete))
        for maker in MAKERS:
            if self.has(*concrete, maker):
                self.edges[node].append(("m", *concrete, maker))

    def _body(self, node: Node, function: Function, module: str, concrete: tuple[str, str] | None) -> None:
        self._names(node, module, function.refs, function.imports, concrete)
        if concrete is None:
            self._made_here(node, module, function)
        for written in function.methods:
            sort = self.rules.of_attribute(written)
            if sort:
                self._mark(node, sort, f".{written}")
                if "*" in written:
                    self._mark(node, "picked", f".{written}")
        for flag in function.flags:
            sort = _OF_FLAG.get(flag)
            if sort:
                self._mark(node, sort, flag)
        if concrete is None:
            return
        if "self-call" in function.flags or "__class__" in function.selfs:
            self.edges[node].append(("c", *concrete, "") if function.kind in ("class", "") else node)
        for attribute in (*function.selfs, *function.supers):
            if self.has(*concrete, attribute):
                self.edges[node].append(("m", *concrete, attribute))
            elif attribute not in ("__dict__", "__class__") and self._is_native(*concrete):
                sort = self.rules.of_attribute(attribute)
                if sort:
                    self._mark(node, sort, f"self.{attribute}")

    def _made_here(self, node: Node, module: str, function: Function) -> None:
        """Methods of what the body may make itself (rule 3)."""
        taken = {written.partition("(")[0] for written in function.methods}
        for written in function.refs:
            target = self.universe.resolve(module, written, function.imports)
            if target.sort == "class":
                found = sorted(attribute for attribute in taken if self.has(target.module, target.name, attribute))
                self.made.setdefault(node, []).extend(("m", target.module, target.name, attribute) for attribute in found)

    def _names(
        self, node: Node, module: str, names: tuple[str, ...], imports: dict[str, str], concrete: tuple[str, str] | None = None
    ) -> None:
        for written in names:
            target = self.universe.resolve(module, written, imports)
            global_one = target.sort == "function" or (target.sort == "builtin" and not written.startswith("__"))
            if concrete and "." not in written and not global_one and self.has(*concrete, written):
                self.edges[node].append(("m", *concrete, written))
                continue
            self._target(node, target, written)

    def _target(self, node: Node, target: Target, written: str) -> None:
        whole = ".".join(filter(None, [target.module, target.name, target.attribute]))
        if target.sort in ("function", "class", "method") and self.rules.is_code(whole) and not self.rules.is_accepted(whole):
            self._mark(node, "code", whole)
        if target.sort == "function":
            self.edges[node].append(("f", target.module, target.name, ""))
        elif target.sort == "class":
            self.edges[node].append(("c", target.module, target.name, ""))
        elif target.sort == "method":
            self._class_attribute(node, target)
        elif target.sort == "value":
            self.edges[node].append(("v", target.module, target.name, ""))
            self._attributes(node, target.attribute, written)
        else:
            sort = {
                "builtin": self.rules.of_builtin,
                "library": self.rules.of_library,
                "native": self.rules.of_native,
                "module": lambda path: "code" if self.rules.is_code(path) else "",
            }.get(target.sort, self.rules.of_unknown)(target.module)
            if sort:
                self._mark(node, sort, whole)

    def _class_attribute(self, node: Node, target: Target) -> None:
        if self.has(target.module, target.name, target.attribute):
            self.edges[node].append(("m", target.module, target.name, target.attribute))
        elif self.ancestors(target.module, target.name) is None:
            self._mark(node, "unknown", f"{target.module}.{target.name}.{target.attribute}")
        else:
            self._attributes(node, target.attribute, target.attribute)

    def _attributes(self, node: Node, taken: str, written: str) -> None:
        for attribute in filter(None, taken.split(".")):
            sort = self.rules.of_attribute(attribute)
            if sort:
                self._mark(node, sort, written)

    def _mark(self, node: Node, sort: str, why: str) -> None:
        self.marks[node].append(Mark(sort, why))

    def reach(self, roots: list[Node], sorts: frozenset[str], *, within: str = "", made: bool = False) -> str:
        """The way from these nodes to the first mark of these sorts, as text; empty where none is reached.

        With `within`, functions and classes beyond that module are not followed; with `made`, methods of what a function may make itself are, too.
        """
        waiting = [node for node in roots if node[0] != "m" or self._follows(node, "")]
        came: dict[Node, Node | None] = dict.fromkeys(waiting)
        for node in waiting:
            self.look(node)
            for mark in self.marks[node]:
                if mark.sort in sorts:
                    return " -> ".join([*_way(node, came), f"{mark.sort}: {mark.why}"])
            for after in (*self.edges[node], *(self.made.get(node, ()) if made else ())):
                if after not in came and self._follows(after, within):
                    came[after] = node
                    waiting.append(after)
        return ""

    def _follows(self, node: Node, within: str) -> bool:
        if within and node[0] != "m" and node[1] != within:
            return False
        return not all(self.rules.is_accepted(path) for path in self._written(node))

    def _written(self, node: Node) -> list[str]:
        """Where a node's source stands: a method's in every class that defines it, so that one that overrides it is looked into."""
        kind, module, name, attribute = node
        if kind != "m":
            return [f"{module}.{name}"]
        above = self.ancestors(module, name) or ()
        return [
            f"{where}.{cls_name}.{attribute}" for where, cls_name, cls in above if attribute in cls.methods or attribute in cls.assigned
        ] or [""]


def _way(node: Node, came: dict[Node, Node | None]) -> Iterator[str]:
    steps: list[str] = []
    at: Node | None = node
    while at is not None:
        steps.append(".".join(filter(None, at[1:])))
        at = came[at]
    yield from reversed(steps)
