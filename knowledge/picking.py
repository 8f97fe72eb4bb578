"""Picking: attributes that a function takes by names it computes, and what becomes of them.

Rules
1. A name that can only be one of some constants is as good as written down: each is given as taken, and the rules over attributes look at it.
   Constants are followed through conditions, local names and loops over literals, and the module's own constants.
2. A name of which at least `MIN_FIXED` characters are fixed is given as a pattern (`visit_*`).
3. Any other name is computed. What it brings is `picked` where it is called, returned, stored, put into a container or handed to another
   function: whoever made the name then calls any method of any value, as `operator.methodcaller` does. Compared, tested or computed with, it is
   only read.
4. Where the value is the first parameter itself, only its own methods can be picked: `picked-self`.
5. A table's or group's method that takes a method's name together with arguments (`frame.agg(name, **given)`) picks the same way. So do `vars(value)`
   and `value.__dict__` by a computed key, and `getattr` or `__getattribute__` handed on as a function.
6. Copying is reading: `setattr(other, name, getattr(value, name))` keeps a value under the name that the source then has to write down. So is
   passing on: `__getattr__` that asks a value for the very name that it was asked for.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping

MIN_FIXED = 4
"""Characters: `get_*` leaves a family of methods, fewer leave nearly all."""
MAX_CONSTANTS = 64
"""Names that one expression may stand for; more are taken for computed."""
MAX_DEPTH = 12
"""Expressions followed to a constant, and values followed to their use."""
_BY_NAME = frozenset({"agg", "aggregate", "apply", "transform"})
"""Methods of tables, groups and windows whose first argument may be another method's name (pandas/core/apply.py, rule 5)."""
_READS = frozenset(
    {
        "isinstance", "issubclass", "len", "hasattr", "callable", "str", "repr", "int", "float", "bool", "type", "id", "hash", "format", "print", "abs",
        "round", "min", "max", "sum", "any", "all",
    }
)  # fmt: skip
"""Builtins that call no method of their argument which a name could pick."""
_ARRAYS = frozenset(
    {
        f"{of}.{name}"
        for of in ("np", "numpy")
        for name in ("array", "asarray", "asanyarray", "atleast_1d", "atleast_2d", "shape", "ndim", "size")
    }
)
"""What makes an array, or a number, of its argument."""


def _root(value: ast.expr) -> ast.expr:
    while isinstance(value, ast.Attribute):
        value = value.value
    return value


class Picking:
    """One function or expression, looked at once."""

    def __init__(self, node: ast.AST, first: str, constants: Mapping[str, ast.expr]) -> None:
        self.node = node
        self.first = first
        self.module = constants
        self.above: dict[ast.AST, ast.AST] = {}
        self.bound: dict[str, list[ast.expr | None]] = {}
        self.flags: set[str] = set()
        for one in self._walk():
            self._look(one)

    def _walk(self) -> list[ast.expr]:
        found: list[ast.expr] = []
        for one in ast.walk(self.node):
            for inner in ast.iter_child_nodes(one):
                self.above[inner] = one
            if isinstance(one, ast.Call | ast.Subscript | ast.Attribute | ast.Name):
                found.append(one)
            self._bind(one)
        return found

    # What names are bound to

    def _bind(self, node: ast.AST) -> None:
        if isinstance(node, ast.Assign):
            for target in node.targets:
                self._target(target, node.value)
        elif isinstance(node, ast.AnnAssign | ast.NamedExpr):
            self._target(node.target, node.value)
        elif isinstance(node, ast.AugAssign):
            self._target(node.target, None)
        elif isinstance(node, ast.For | ast.AsyncFor | ast.comprehension):
            self._loop(node.target, node.iter)
        elif isinstance(node, ast.arg):
            self.bound.setdefault(node.arg, []).append(None)
        elif isinstance(node, ast.withitem) and node.optional_vars is not None:
            self._target(node.optional_vars, None)
        elif (
            isinstance(node, ast.ExceptHandler | ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
            and node.name
            and node is not self.node
        ):
            self.bound.setdefault(node.name, []).append(None)
        elif isinstance(node, ast.MatchAs | ast.MatchStar | ast.MatchMapping):
            self.bound.setdefault(getattr(node, "name", None) or getattr(node, "rest", None) or "", []).append(None)

    def _target(self, target: ast.expr, value: ast.expr | None) -> None:
        if isinstance(target, ast.Name):
            self.bound.setdefault(target.id, []).append(value)
        elif isinstance(target, ast.Tuple | ast.List):
            same = isinstance(value, ast.Tuple | ast.List) and len(value.elts) == len(target.elts)
            for index, inner in enumerate(target.elts):
                self._target(inner, value.elts[index] if same else None)  # type: ignore[union-attr]
        elif isinstance(target, ast.Starred):
            self._target(target.value, None)

    def _loop(self, target: ast.expr, over: ast.expr) -> None:
        rows = self._rows(over)
        if not rows:
            self._target(target, None)
        for row in rows:
            self._target(target, row)

    def _rows(self, over: ast.expr) -> list[ast.expr]:
        """What a loop over a literal goes through; nothing where it is none."""
        if isinstance(over, ast.Name) and over.id in self.module and over.id not in self.bound:
            over = self.module[over.id]
        if isinstance(over, ast.Dict):
            return [key for key in over.keys if key is not None] if None not in over.keys else []
        if isinstance(over, ast.Call) and isinstance(over.func, ast.Name) and over.func.id == "enumerate" and over.args:
            return [ast.Tuple([ast.Constant(0), row], ast.Load()) for row in self._rows(over.args[0])]
        return list(over.elts) if isinstance(over, ast.Tuple | ast.List | ast.Set) else []

    # What a name can be

    def constants(self, name: ast.expr, depth: int = MAX_DEPTH) -> frozenset[str] | None:
        """Every text that an expression can be, or a pattern of it; None where it is computed (rules 1 and 2)."""
        if depth <= 0:
            return None
        if isinstance(name, ast.Constant):
            return frozenset({name.value} if isinstance(name.value, str) else ())
        if isinstance(name, ast.IfExp):
            return self._all([name.body, name.orelse], depth)
        if isinstance(name, ast.BoolOp):
            return self._all(name.values, depth)
        if isinstance(name, ast.Name):
            return self._named(name.id, depth)
        return self._pattern(name, depth)

    def _all(self, parts: list[ast.expr], depth: int) -> frozenset[str] | None:
        found: frozenset[str] = frozenset()
        for one in parts:
            more = self.constants(one, depth - 1)
            if more is None or len(found | more) > MAX_CONSTANTS:
                return None
            found |= more
        return found

    def _named(self, name: str, depth: int) -> frozenset[str] | None:
        if name in self.bound:
            values = self.bound[name]
            known = [value for value in values if value is not None]
            return self._all(known, depth) if len(known) == len(values) else None
        return self.constants(self.module[name], depth - 1) if name in self.module else None

    def _pattern(self, name: ast.expr, depth: int) -> frozenset[str] | None:
        parts: list[ast.expr] = []
        if isinstance(name, ast.JoinedStr):
            parts = [part.value if isinstance(part, ast.FormattedValue) and part.conversion == -1 else part for part in name.values]
        elif isinstance(name, ast.BinOp) and isinstance(name.op, ast.Add):
            parts = [name.left, name.right]
        if not parts:
            return None
        texts = [""]
        for part in parts:
            ends = sorted(self.constants(part, depth - 1) or {"*"})
            texts = [text + end for text in texts for end in ends]
            if len(texts) > MAX_CONSTANTS:
                return None
        return frozenset(texts) if all(len(text.replace("*", "")) >= MIN_FIXED for text in texts) else None

    # What is taken, and what becomes of it

    def _look(self, node: ast.expr) -> None:
        if isinstance(node, ast.Call):
            self._call(node)
        elif isinstance(node, ast.Subscript):
            if isinstance(node.ctx, ast.Load) and self._own_dict(node.value) is not None:
                self._got(node, self._own_dict(node.value), node.slice)
        elif self._is_getter(node) and not self._called(node) and not self._delayed(node):
            self.flags |= {"get", "picked"}

    def _is_getter(self, node: ast.expr) -> bool:
        if isinstance(node, ast.Name):
            return node.id == "getattr" and node.id not in self.bound
        return isinstance(node, ast.Attribute) and node.attr in ("__getattribute__", "__getattr__")

    def _called(self, function: ast.expr) -> bool:
        above = self.above.get(function)
        return isinstance(above, ast.Call) and above.func is function

    def _delayed(self, function: ast.expr) -> bool:
        """`delayed(getattr)(value, "written down")`."""
        above = self.above.get(function)
        later = self.above.get(above) if isinstance(above, ast.Call) and above.args == [function] else None
        return isinstance(later, ast.Call) and later.func is above and len(later.args) > 1 and self.constants(later.args[1]) is not None

    def _call(self, call: ast.Call) -> None:
        function = call.func
        if isinstance(function, ast.Name) and self._is_getter(function) and len(call.args) > 1:
            self._got(call, call.args[0], call.args[1])
        elif not isinstance(function, ast.Attribute) or not call.args:
            return
        elif self._is_getter(function):
            self._got(call, function.value, call.args[-1])
        elif function.attr in ("get", "pop") and self._own_dict(function.value) is not None:
            self._got(call, self._own_dict(function.value), call.args[0])
        elif function.attr in _BY_NAME and not self._is_first(function.value):
            self._by_name(call)

    def _by_name(self, call: ast.Call) -> None:
        """Rule 5: a name, and more beside it."""
        starred = any(isinstance(one, ast.Starred) for one in call.args)
        more = starred or any(word.arg in (None, "args", "kwargs") for word in call.keywords)
        if call.func.attr == "transform" and (self._is_value(call.args[0]) and not self._is_first(_root(call.args[0]))):  # type: ignore[attr-defined]
            return  # an estimator's, of what its caller gave
        if more and not isinstance(call.args[0], ast.Lambda) and self.constants(call.args[0]) is None:
            self.flags.add("picked")

    def _own_dict(self, node: ast.expr) -> ast.expr | None:
        """The value whose attributes these are."""
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "vars" and node.args:
            return node.args[0]
        return node.value if isinstance(node, ast.Attribute) and node.attr == "__dict__" else None

    def _got(self, got: ast.expr, owner: ast.expr | None, name: ast.expr) -> None:
        names = self.constants(name)
        if names is not None and (owner is None or not any("*" in one for one in names) or self._is_value(owner)):
            return
        if not self._is_copied(got, name) and not self._passes_on(owner, name) and self._handed_on(got, MAX_DEPTH):
            self.flags.add("picked-self" if owner is not None and self._is_first(owner) else "picked")

    def _is_value(self, owner: ast.expr) -> bool:
        """Not a module, and nothing else that a global names."""
        root = _root(owner)
        return not isinstance(root, ast.Name) or root.id in self.bound

    def _passes_on(self, owner: ast.expr | None, name: ast.expr) -> bool:
        """Rule 6: nobody but the source that asks for an attribute chooses it."""
        node = self.node
        if not isinstance(node, ast.FunctionDef) or node.name not in ("__getattr__", "__getattribute__") or not isinstance(name, ast.Name):
            return False
        asked = len(node.args.args) == 2 and name.id == node.args.args[1].arg and self.bound[name.id] == [None]
        return asked and owner is not None and self._is_value(owner)

    def _is_copied(self, got: ast.expr, name: ast.expr) -> bool:
        """Rule 6."""
        above = self.above.get(got)
        if not isinstance(above, ast.Call) or not isinstance(above.func, ast.Name) or above.func.id != "setattr" or len(above.args) != 3:
            return False
        return above.args[2] is got and self._is_value(above.args[0]) and ast.dump(above.args[1]) == ast.dump(name)

    def _is_first(self, owner: ast.expr) -> bool:
        if isinstance(owner, ast.Call) and isinstance(owner.func, ast.Name) and owner.func.id in ("type", "super"):
            return not owner.args or self._is_first(owner.args[0])
        if isinstance(owner, ast.Attribute) and owner.attr == "__class__":
            owner = owner.value
        return isinstance(owner, ast.Name) and bool(self.first) and owner.id == self.first

    def _handed_on(self, value: ast.AST, depth: int) -> bool:
        """Rule 3."""
        above = self.above.get(value)
        if above is None or depth <= 0:
            return True
        if isinstance(above, ast.Call):
            return above.func is value or ast.unparse(above.func) not in _READS | _ARRAYS
        if isinstance(above, ast.Subscript) and isinstance(above.slice, ast.Tuple | ast.Slice):
            return False  # an array's or a list's
        if isinstance(above, ast.IfExp | ast.Subscript):
            inside = (above.test,) if isinstance(above, ast.IfExp) else (above.slice,)
            return value not in inside and self._handed_on(above, depth - 1)
        if isinstance(above, ast.BoolOp | ast.NamedExpr | ast.Await | ast.Starred):
            return self._handed_on(above, depth - 1)
        if isinstance(above, ast.Assign | ast.AnnAssign):
            targets = above.targets if isinstance(above, ast.Assign) else [above.target]
            return any(self._kept(target, depth) for target in targets)
        return not isinstance(
            above,
            ast.Compare | ast.BinOp | ast.UnaryOp | ast.If | ast.While | ast.Assert | ast.FormattedValue | ast.Attribute | ast.Expr | ast.AugAssign
            | ast.For | ast.comprehension | ast.withitem | ast.Raise | ast.Slice,
        )  # fmt: skip

    def _kept(self, target: ast.expr, depth: int) -> bool:
        if isinstance(target, ast.Tuple | ast.List):
            return any(self._kept(one, depth) for one in target.elts)
        if not isinstance(target, ast.Name):
            return True
        return any(self._handed_on(use, depth - 1) for use in self._uses(target.id))

    def _uses(self, name: str) -> Iterator[ast.AST]:
        return (one for one in self.above if isinstance(one, ast.Name) and one.id == name and isinstance(one.ctx, ast.Load))
