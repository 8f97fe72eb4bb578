"""Source: a module's text to its summary, by its syntax tree; nothing is imported or run.

Rules
1. Whatever is referred to counts as called, wherever it stands: `run = os.system` and `map(os.system, x)` are as good as a call. Left out are
   annotations, `isinstance` and `except` clauses, which call nothing.
2. What is defined under a condition is defined; several definitions of one name are all kept.
3. Text over `MAX_SOURCE_BYTES`, or that does not parse, gives no summary, so nothing in it is ever let in.
"""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator, Mapping

from knowledge.picking import Picking
from knowledge.summary import Class, Function, Module

MAX_SOURCE_BYTES = 4 * 1024**2
"""Bytes of one module: generated ones have about 2 MB."""
_TYPE_TESTS = {"isinstance", "issubclass"}
_OF_CLASS = {"__name__", "__qualname__", "__module__", "__doc__"}
"""What of a class is text."""
_LOOKS_AT = {"dir", "repr", "str", "id", "hash", "callable"}
"""Builtins that make nothing of a class that they are given."""
_MOVES = {"rename", "replace", "move", "copy_into", "move_into"}
"""What a path does to files when it is given one other (pathlib): texts, tables and arrays take more than one value, or words, or a number."""
_OF_PROPERTY = {"setter", "deleter", "getter"}
"""Decorators that are attributes of the property they belong to."""


def summarise(text: bytes, name: str, *, package: bool) -> Module | None:
    """The summary (rule 3: or None)."""
    if len(text) > MAX_SOURCE_BYTES:
        return None
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    reader = _ModuleReader(name, _constants(tree), package=package)
    try:
        reader.block(tree.body)
    except RecursionError:
        return None
    return reader.module()


def _constants(tree: ast.Module) -> dict[str, ast.expr]:
    """What a module's names are, of those that are assigned once and at its own level."""
    stored = Counter(one.id for one in ast.walk(tree) if isinstance(one, ast.Name) and not isinstance(one.ctx, ast.Load))
    return {
        target.id: one.value
        for one in tree.body
        if isinstance(one, ast.Assign)
        for target in one.targets
        if isinstance(target, ast.Name) and stored[target.id] == 1
    }


class _ModuleReader:
    """Reads a module's own statements."""

    def __init__(self, name: str, constants: dict[str, ast.expr], *, package: bool) -> None:
        self.name = name
        self.constants = constants
        self.package = package
        self.imports: dict[str, str] = {}
        self.stars: list[str] = []
        self.functions: dict[str, list[Function]] = {}
        self.classes: dict[str, list[Class]] = {}
        self.assigned: dict[str, list[str]] = {}
        self.aliases: set[str] = set()
        self.tuples: set[str] = set()

    def module(self) -> Module:
        return Module(
            package=self.package,
            imports=self.imports,
            stars=tuple(self.stars),
            functions={name: tuple(found) for name, found in self.functions.items()},
            classes={name: tuple(found) for name, found in self.classes.items()},
            assigned={name: tuple(found) for name, found in self.assigned.items()},
            aliases=tuple(sorted(name for name in self.aliases if len(self.assigned[name]) == 1)),
            tuples=tuple(sorted(self.tuples)),
            lazy="__getattr__" in self.functions or "__getattr__" in self.assigned,
        )

    def block(self, body: list[ast.stmt]) -> None:
        for statement in body:
            self.statement(statement)

    def statement(self, node: ast.stmt) -> None:
        if isinstance(node, ast.Import | ast.ImportFrom):
            imports, stars = imported(node, self.name, package=self.package)
            self.imports |= imports
            self.stars += stars
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            self.functions.setdefault(node.name, []).append(read_function(node, self.name, self.constants, package=self.package))
        elif isinstance(node, ast.ClassDef):
            self.a_class(node, "")
        elif isinstance(node, ast.Assign):
            self.assignment(node.targets, node.value)
        elif isinstance(node, ast.AnnAssign) and node.value:
            self.assignment([node.target], node.value)
        else:
            for inner in _blocks(node):
                self.block(inner)

    def assignment(self, targets: list[ast.expr], value: ast.expr) -> None:
        names = [one.id for target in targets for one in ast.walk(target) if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Store)]
        refs = _expression_refs(value, self.name, self.constants, package=self.package)
        for name in names:
            self.assigned.setdefault(name, []).extend(refs)
            if dotted(value) and len(targets) == 1 and isinstance(targets[0], ast.Name):
                self.aliases.add(name)
            if isinstance(value, ast.Call) and (dotted(value.func) or "").split(".")[-1] == "namedtuple":
                self.tuples.add(name)

    def a_class(self, node: ast.ClassDef, outer: str) -> None:
        name = f"{outer}{node.name}"
        methods: dict[str, list[Function]] = {}
        assigned: dict[str, list[str]] = {}
        for inner in _flat(node.body):
            if isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef):
                methods.setdefault(inner.name, []).append(
                    read_function(inner, self.name, self.constants, package=self.package, method=True)
                )
            elif isinstance(inner, ast.ClassDef):
                self.a_class(inner, f"{name}.")
                assigned.setdefault(inner.name, []).append(f"{name}.{inner.name}")
            elif isinstance(inner, ast.Assign | ast.AnnAssign) and inner.value:
                refs = _expression_refs(inner.value, self.name, self.constants, package=self.package)
                for target in inner.targets if isinstance(inner, ast.Assign) else [inner.target]:
                    for one in ast.walk(target):
                        if isinstance(one, ast.Name):
                            assigned.setdefault(one.id, []).extend(refs)
        made = Class(
            bases=tuple(_base(base) for base in node.bases),
            metaclass=next((dotted(word.value) or "?" for word in node.keywords if word.arg == "metaclass"), ""),
            methods={key: tuple(found) for key, found in methods.items()},
            assigned={key: tuple(found) for key, found in assigned.items()},
            decorators=tuple(_callee(one) for one in node.decorator_list),
        )
        self.classes.setdefault(name, []).append(made)


def _blocks(node: ast.stmt) -> Iterator[list[ast.stmt]]:
    for field in ("body", "orelse", "finalbody"):
        inner = getattr(node, field, None)
        if isinstance(inner, list):
            yield inner
    for handler in getattr(node, "handlers", ()):
        yield handler.body


def _flat(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    for node in body:
        yield node
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            for inner in _blocks(node):
                yield from _flat(inner)


def imported(node: ast.Import | ast.ImportFrom, module: str, *, package: bool) -> tuple[dict[str, str], list[str]]:
    """Names that an import statement binds, and modules of which it takes all."""
    if isinstance(node, ast.Import):
        return {
            alias.asname or alias.name.partition(".")[0]: alias.name if alias.asname else alias.name.partition(".")[0]
            for alias in node.names
        }, []
    base = _absolute(node, module, package=package)
    stars = [base for alias in node.names if alias.name == "*"]
    return {alias.asname or alias.name: f"{base}.{alias.name}" for alias in node.names if alias.name != "*"}, stars


def _absolute(node: ast.ImportFrom, module: str, *, package: bool) -> str:
    if not node.level:
        return node.module or ""
    parts = module.split(".") if package else module.split(".")[:-1]
    kept = parts[: len(parts) - node.level + 1]
    return ".".join([*kept, *([node.module] if node.module else [])])


def dotted(node: ast.expr) -> str | None:
    """`a.b.c` as text, None for any other expression."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    if not isinstance(node, ast.Name):
        return None
    return ".".join([node.id, *reversed(parts)])


def _base(node: ast.expr) -> str:
    if isinstance(node, ast.Call) and _callee(node).split(".")[-1] == "namedtuple":
        return "tuple"
    return dotted(node.value if isinstance(node, ast.Subscript) else node) or "?"


def _callee(node: ast.expr) -> str:
    return dotted(node.func if isinstance(node, ast.Call) else node) or "?"


def _expression_refs(value: ast.expr, module: str, constants: Mapping[str, ast.expr], *, package: bool) -> list[str]:
    reader = _BodyReader(Picking(value, "", constants), _bound(value), module, package=package)
    reader.visit(value)
    return list(reader.refs)


def read_function(
    node: ast.FunctionDef | ast.AsyncFunctionDef, module: str, constants: Mapping[str, ast.expr], *, package: bool, method: bool = False
) -> Function:
    """A function's summary."""
    arguments = [*node.args.posonlyargs, *node.args.args]
    decorators = [_callee(one) for one in node.decorator_list]
    kind = _kind(decorators)
    first = arguments[0].arg if method and arguments and kind != "static" else ""
    reader = _BodyReader(Picking(node, first, constants), _bound(node), module, package=package)
    for one, name in zip(node.decorator_list, decorators, strict=True):
        if name.rpartition(".")[2] not in _OF_PROPERTY:
            reader.visit(one)
    for default in (*node.args.defaults, *node.args.kw_defaults):
        if default is not None:
            reader.visit(default)
    for statement in node.body:
        reader.visit(statement)
    return reader.function(kind, bare=len(arguments) - len(node.args.defaults) <= 1 and None not in node.args.kw_defaults)


def _plain_attribute(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str) and "__" not in node.value


def _one_value(call: ast.Call) -> bool:
    """Whether it is called with one value, which is written down neither as a number nor as a table of names."""
    if len(call.args) != 1 or call.keywords:
        return False
    given = call.args[0]
    number = isinstance(given, ast.Constant) and not isinstance(given.value, str | bytes)
    return not (number or isinstance(given, ast.Dict | ast.DictComp | ast.Lambda))


def _kind(decorators: list[str]) -> str:
    for name in decorators:
        last = name.rpartition(".")[2]
        if last in ("setter", "deleter"):
            return "setter"
        if name == "classmethod":
            return "class"
        if name == "staticmethod":
            return "static"
        if last in ("property", "cached_property", "getter", "deprecate_property"):
            return "property"
    return ""


def _bound(node: ast.AST) -> set[str]:
    """Every name that is bound anywhere inside, but not by an import or a `global`."""
    bound: set[str] = set()
    free: set[str] = set()
    for one in ast.walk(node):
        if isinstance(one, ast.arg):
            bound.add(one.arg)
        elif isinstance(one, ast.Name) and not isinstance(one.ctx, ast.Load):
            bound.add(one.id)
        elif (isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and one is not node) or (
            isinstance(one, ast.ExceptHandler) and one.name
        ):
            bound.add(one.name)
        elif isinstance(one, ast.Global):
            free |= set(one.names)
    return bound - free


class _BodyReader(ast.NodeVisitor):
    """Collects what a body refers to."""

    def __init__(self, picking: Picking, bound: set[str], module: str, *, package: bool) -> None:
        self.picking = picking
        self.first = picking.first
        self.bound = bound
        self.module = module
        self.package = package
        self.refs: dict[str, None] = {}
        self.selfs: dict[str, None] = {}
        self.supers: dict[str, None] = {}
        self.methods: dict[str, bool] = {}
        self.imports: dict[str, str] = {}
        self.flags: set[str] = set(picking.flags)

    def function(self, kind: str, *, bare: bool) -> Function:
        return Function(
            refs=tuple(sorted(self.refs)),
            selfs=tuple(sorted(self.selfs)),
            supers=tuple(sorted(self.supers)),
            methods=tuple(sorted(name if given else f"{name}()" for name, given in self.methods.items())),
            imports=self.imports,
            flags=tuple(sorted(self.flags)),
            bare=bare,
            kind=kind,
        )

    def visit_Import(self, node: ast.Import) -> None:
        self._import(node)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        self._import(node)

    def _import(self, node: ast.Import | ast.ImportFrom) -> None:
        imports, stars = imported(node, self.module, package=self.package)
        self.imports |= imports
        self.bound -= set(imports)
        if stars:
            self.flags.add("get")

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        self.visit(node.target)
        if node.value:
            self.visit(node.value)

    def visit_arg(self, node: ast.arg) -> None:
        """An annotation calls nothing (rule 1)."""

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self._inner(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
        self._inner(node)

    def _inner(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        for one in (*node.decorator_list, *node.args.defaults, *(default for default in node.args.kw_defaults if default), *node.body):
            self.visit(one)

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> None:
        for one in node.body:
            self.visit(one)

    def visit_Global(self, node: ast.Global) -> None:
        self.flags.add("patch")

    def visit_Name(self, node: ast.Name) -> None:
        if isinstance(node.ctx, ast.Load) and node.id not in self.bound:
            self.refs[node.id] = None

    def visit_Attribute(self, node: ast.Attribute) -> None:
        self._attribute(node, given=True)

    def _attribute(self, node: ast.Attribute, *, given: bool) -> None:
        name = dotted(node)
        root = name.partition(".")[0] if name else ""
        if name and root not in self.bound:
            if isinstance(node.ctx, ast.Load):
                self.refs[name] = None
            else:
                self.flags.add("patch")
            return
        if (
            isinstance(node.ctx, ast.Load)
            and self._is_own_class(node.value)
            and not (node.attr.startswith("__") and node.attr not in _OF_CLASS)
        ):
            self.selfs[node.attr] = None
            return
        if isinstance(node.ctx, ast.Load):
            self._taken(node, given=given)
        self.visit(node.value)

    def _is_own_class(self, node: ast.expr) -> bool:
        """`self.__class__`, of which an attribute is one of the instance's own, and nothing is made."""
        first = node.value if isinstance(node, ast.Attribute) and node.attr == "__class__" else None
        return isinstance(first, ast.Name) and bool(self.first) and first.id == self.first

    def _taken(self, node: ast.Attribute, *, given: bool) -> None:
        owner = node.value
        if isinstance(owner, ast.Name) and self.first and owner.id == self.first:
            self.selfs[node.attr] = None
        elif isinstance(owner, ast.Call) and isinstance(owner.func, ast.Name) and owner.func.id == "super":
            self.supers[node.attr] = None
        else:
            self.methods[node.attr] = self.methods.get(node.attr, False) or given

    def _is_foreign(self, owner: ast.expr) -> bool:
        """Neither the first parameter, nor `super()`, nor what a global names."""
        if isinstance(owner, ast.Call) and isinstance(owner.func, ast.Name) and owner.func.id == "super":
            return False
        root = (dotted(owner) or "").partition(".")[0]
        return not root or (root in self.bound and not (isinstance(owner, ast.Name) and owner.id == self.first))

    def visit_Subscript(self, node: ast.Subscript) -> None:
        if not isinstance(node.ctx, ast.Load):
            name = dotted(node.value)
            if name and name.partition(".")[0] not in self.bound:
                self.flags.add("patch")
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        function = node.func
        if (dotted(function) or "").rpartition(".")[2] == "attrgetter" and all(_plain_attribute(one) for one in node.args):
            return
        if isinstance(function, ast.Name) and function.id in _TYPE_TESTS and function.id not in self.bound and len(node.args) == 2:
            self.visit(node.args[0])
            return
        if isinstance(function, ast.Name) and function.id in _LOOKS_AT and function.id not in self.bound and len(node.args) == 1:  # noqa: SIM102
            if self._is_own_class(node.args[0]):
                return
        if isinstance(function, ast.Name) and function.id not in self.bound:
            self._builtin(function.id, node)
        if isinstance(function, ast.Attribute):
            self._attribute(function, given=bool(node.args or node.keywords))
            if function.attr in _MOVES and _one_value(node) and self._is_foreign(function.value):
                self.methods[f"{function.attr}(1)"] = True
        else:
            self._called(function)
            self.visit(function)
        for argument in (*node.args, *(word.value for word in node.keywords)):
            self.visit(argument)

    def _called(self, function: ast.expr) -> None:
        if isinstance(function, ast.Name) and self.first and function.id == self.first:
            self.flags.add("self-call")
        elif isinstance(function, ast.Subscript):
            self.flags.add("item-call")
        elif isinstance(function, ast.Call) and isinstance(function.func, ast.Name) and function.func.id == "type":
            self.flags.add("type")

    def _builtin(self, name: str, node: ast.Call) -> None:
        names = self.picking.constants(node.args[1]) if len(node.args) > 1 else None
        mine = bool(node.args) and isinstance(node.args[0], ast.Name) and node.args[0].id == self.first != ""
        if name == "getattr" and names is not None:
            for attribute in sorted(names):
                self._constant_get(node, attribute, mine=mine)
        elif name == "getattr":
            self.flags.add("get-self" if mine or self._self_rooted(node) else "get")
        elif name in ("setattr", "delattr") and (names is None or any("*" in one for one in names)):
            self.flags.add("set-self" if mine else "set")

    def _constant_get(self, node: ast.Call, attribute: str, *, mine: bool) -> None:
        name = dotted(node.args[0])
        if "*" in attribute and (mine or (name and name.partition(".")[0] not in self.bound)):
            self.flags.add("get-self" if mine else "get")
        elif mine:
            self.selfs[attribute] = None
        elif name and name.partition(".")[0] not in self.bound:
            self.refs[f"{name}.{attribute}"] = None
        else:
            self.methods[attribute] = True

    def _self_rooted(self, node: ast.Call) -> bool:
        name = dotted(node.args[0]) if node.args else None
        return bool(name and self.first and name.startswith(f"{self.first}."))
