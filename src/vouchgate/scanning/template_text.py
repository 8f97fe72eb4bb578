"""Where a template's values come from: whether text that it uses as a key was put together by the template itself.

Rules
1. Two kinds: plain (data that the renderer hands in, numbers, constants, and pieces of them), made (joined or rewritten text, a constant that
   begins with an underscore or holds two in a row). No piece of a plain text reaches further than what it is a piece of: every way into
   Python's internals goes through a name with two underscores in a row.
2. Joining, rewriting and whatever is not known makes.
3. Variables, macro parameters and attributes of namespaces have the worst kind that is ever put into them, wherever that stands.
4. Once made text was appended to a list, any list may hold it: then only numbers are keys.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

PLAIN, MADE = 0, 1


def words(text: str) -> frozenset[str]:
    """A set of names, from one line."""
    return frozenset(text.split())


MAX_ROUNDS = 64
"""Passes until nothing changes; text flows forward, so that real templates need three."""

_PIECES = words("split rsplit strip lstrip rstrip partition rpartition splitlines")
_HOLDERS = words("get items keys values pop copy")
_ANSWERS = words("startswith endswith count index find rfind isalnum isalpha isdigit islower isnumeric isspace istitle isupper")
_GROWERS = words("append extend insert")
_NUMBER_FILTERS = words("length count int round abs float wordcount")
_KEEPING_FILTERS = words(
    "list first last sort unique default d items dictsort selectattr rejectattr select reject min max safe batch slice groupby"
)
_NUMBER_CALLS = words("count index find rfind")


class Flow:
    """The bindings of one template, by its nodes in any order."""

    def __init__(self, nodes: list[Any]) -> None:
        self._nodes = nodes
        self.macros = {node.name: node for node in nodes if _kind(node) == "Macro"}
        self.values = {node.name for node in nodes if _kind(node) == "Name" and node.ctx in {"store", "param"}}
        """Names bound to values: set, loop targets, parameters."""
        self.bound = self.values | set(self.macros)
        self._kinds: dict[str, int] = {}
        self._seen: dict[int, int] = {}
        self._numbers: dict[int, bool] = {}
        self._lists_made = False
        self._counters = self._only_numbers()
        self.endless = not self._settle()

    def is_plain_key(self, key: Any) -> bool:
        """Whether `x[key]` cannot reach an attribute by text of the template's own making."""
        return self.is_number(key) or not (self._lists_made or self._kind_of(key) == MADE)

    def is_number(self, node: Any) -> bool:
        """Whether an expression can only be a number (anything else would raise)."""
        found = self._numbers.get(id(node))
        if found is None:
            found = self._numbers[id(node)] = self._number(node)
        return found

    def mentions(self, node: Any, target: Any) -> int:
        """How often an expression reads the variable, or the namespace's attribute, that `target` writes."""
        return sum(_same(one, target) for one in _joined(node))

    def _only_numbers(self) -> frozenset[str]:
        """Variables that are nothing but loop targets over `range`."""
        counting = [node.target for node in self._nodes if _kind(node) == "For" and self._is_range(node.iter)]
        written = Counter(node.name for node in self._nodes if _kind(node) == "Name" and node.ctx in {"store", "param"})
        counted = Counter(one.name for one in counting if _kind(one) == "Name")
        return frozenset(name for name, times in counted.items() if times == written[name])

    def _is_range(self, node: Any) -> bool:
        return _kind(node) == "Call" and _kind(node.node) == "Name" and node.node.name == "range" and "range" not in self.bound

    def _number(self, node: Any) -> bool:
        name = _kind(node)
        if name == "Name":
            return node.name in self._counters
        if name == "Const":
            return isinstance(node.value, int)
        if name in {"Sub", "Div", "FloorDiv", "Neg", "Pos"}:
            return True
        if name in {"Add", "Mul"}:
            either = any if name == "Add" else all
            return either(self.is_number(one) for one in (node.left, node.right))
        if name == "Mod":
            return self.is_number(node.left)
        if name == "Filter":
            return node.name in _NUMBER_FILTERS
        if name == "Getattr":
            return (
                _kind(node.node) == "Name" and node.node.name == "loop" and "loop" not in self.values and node.attr in {"index", "index0"}
            )
        return name == "Call" and _kind(node.node) == "Getattr" and node.node.attr in _NUMBER_CALLS

    def _settle(self) -> bool:
        for _ in range(MAX_ROUNDS):
            before = dict(self._kinds), self._lists_made
            self._seen = {}
            for node in self._nodes:
                self._bind(node)
            if before == (self._kinds, self._lists_made):
                return True
        return False

    def _raise(self, key: str, kind: int) -> None:
        if kind > self._kinds.get(key, PLAIN):
            self._kinds[key] = kind

    def _target(self, target: Any, kind: int) -> None:
        name = _kind(target)
        if name == "Name":
            self._raise(target.name, kind)
        elif name == "NSRef":
            self._raise("." + target.attr, kind)
        elif name == "Tuple":
            for item in target.items:
                self._target(item, kind)

    def _bind(self, node: Any) -> None:
        name = _kind(node)
        if name == "Assign":
            self._target(node.target, self._kind_of(node.node))
        elif name == "AssignBlock":
            self._target(node.target, MADE)
        elif name == "For":
            self._target(node.target, self._kind_of(node.iter))
        elif name == "With":
            for target, value in zip(node.targets, node.values, strict=False):
                self._target(target, self._kind_of(value))
        elif name in {"Macro", "CallBlock"}:
            self._parameters(node, max([self._kind_of(one) for one in node.defaults], default=PLAIN))
            if name == "CallBlock":
                self._parameters(node, MADE)
        elif name == "Call":
            self._called(node)

    def _parameters(self, macro: Any, kind: int) -> None:
        for argument in macro.args:
            self._target(argument, kind)

    def _handed(self, macro: Any, call: Any) -> None:
        for parameter, argument in zip(macro.args, call.args, strict=False):
            self._target(parameter, self._kind_of(argument))
        for pair in call.kwargs:
            self._raise(pair.key, self._kind_of(pair.value))

    def _called(self, node: Any) -> None:
        worst = self._arguments(node)
        callee = node.node
        if _kind(callee) == "Name" and callee.name in self.macros:
            self._handed(self.macros[callee.name], node)
        elif _kind(callee) == "Name" and callee.name in {"namespace", "dict"}:
            for pair in node.kwargs:
                self._raise("." + pair.key, self._kind_of(pair.value))
        elif _kind(callee) == "Getattr" and callee.attr in _GROWERS and worst == MADE:
            self._lists_made = True

    def _arguments(self, node: Any) -> int:
        return max([self._kind_of(one) for one in (*node.args, *(pair.value for pair in node.kwargs))], default=PLAIN)

    def _kind_of(self, node: Any) -> int:
        found = self._seen.get(id(node))
        if found is None:
            found = self._seen[id(node)] = self._judge(node)
        return found

    def _judge(self, node: Any) -> int:
        name = _kind(node)
        if self.is_number(node) or name in {"Compare", "Not", "Test"}:
            return PLAIN
        if name == "Const":
            return _constant(node.value)
        if name == "Name":
            return self._kinds.get(node.name, MADE if node.name in {"varargs", "kwargs"} else PLAIN)
        if name == "Add" and "List" in {_kind(node.left), _kind(node.right)}:
            return max(self._kind_of(node.left), self._kind_of(node.right))
        if name in {"And", "Or", "CondExpr", "List", "Tuple", "Dict", "Pair"}:
            return max([self._kind_of(one) for one in node.iter_child_nodes()], default=PLAIN)
        if name == "Getattr":
            return max(self._kind_of(node.node), self._kinds.get("." + node.attr, PLAIN))
        if name == "Getitem":
            return self._item(node)
        if name == "Call":
            return self._result(node)
        return self._filtered(node) if name == "Filter" and node.node is not None else MADE

    def _item(self, node: Any) -> int:
        held, key = self._kind_of(node.node), node.arg
        if _kind(key) == "Slice":
            return held
        named = f".{key.value}" if _kind(key) == "Const" else ""
        return max(held, self._kinds.get(named, PLAIN))

    def _result(self, node: Any) -> int:
        callee = node.node
        if _kind(callee) == "Name" and callee.name in {"namespace", "dict", "range"} - self.bound:
            return self._arguments(node) if callee.name == "dict" else PLAIN  # a namespace's attributes are followed by name
        if _kind(callee) != "Getattr":
            return MADE
        held = self._kind_of(callee.node)
        if callee.attr in _PIECES:
            return held
        if callee.attr in _HOLDERS:
            return max(held, self._arguments(node))
        return PLAIN if callee.attr in _ANSWERS else MADE

    def _filtered(self, node: Any) -> int:
        held = self._kind_of(node.node)
        if node.name == "trim":
            return held
        by_attribute = node.name == "map" and not node.args
        return max(held, self._arguments(node)) if node.name in _KEEPING_FILTERS or by_attribute else MADE


def _constant(value: Any) -> int:
    return MADE if isinstance(value, str) and (value.startswith("_") or "__" in value) else PLAIN


def _joined(node: Any) -> list[Any]:
    """What a sum or a concatenation is made of."""
    found, left = [], [node]
    while left:
        one = left.pop()
        name = _kind(one)
        if name in {"Add", "Mul"}:
            left += [one.left, one.right]
        elif name == "Concat":
            left += one.nodes
        else:
            found.append(one)
    return found


def _same(node: Any, target: Any) -> bool:
    if _kind(target) == "Name":
        return _kind(node) == "Name" and node.name == target.name
    return _kind(node) == "Getattr" and node.attr == target.attr and _kind(node.node) == "Name" and node.node.name == target.name


def _kind(node: Any) -> str:
    return type(node).__name__
