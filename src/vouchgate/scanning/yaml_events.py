"""Reads YAML as events, without building anything: tags, anchors, keys, and what some loader would act on.

Rules (YAML 1.1, as PyYAML reads it; nothing is constructed)
1. Every tag is of the core schema, or one of PyYAML's for plain values (`!!python/tuple`); any other makes a loader construct what it names.
2. Aliases written out stay under a bound (a "billion laughs" document doubles a list at each line), and depth and events have bounds too.
3. No mapping has the same key twice: PyYAML takes the last, others refuse or take the first.
4. `_target_` and its kin name what a library calls (targets.py); text that is itself a Python expression reaching outside is refused, since
   model configurations are evaluated word by word in some trainers.
5. What stands before a fault counts: a loader of several documents constructs the first before it meets the fault in the second.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from vouchgate.scanning.python_code import Unparsable, judge
from vouchgate.scanning.python_names import HIDDEN_MODULES
from vouchgate.scanning.targets import TARGET, harmless_target

MAX_YAML = 8 * 1024**2
"""Characters read as events: about 5 s."""
MAX_EVENTS = 1_000_000
MAX_DEPTH = 200
"""Collections within each other; Python's loaders recurse."""
MAX_EXPANDED = 10_000_000
"""Values after all aliases are written out."""
MAX_EXPRESSION = 2_000
"""Characters of a scalar that is looked at as an expression."""
_CORE = "tag:yaml.org,2002:"
_PLAIN_TAGS = frozenset(
    [
        f"{_CORE}{name}"
        for name in ("str", "int", "float", "bool", "null", "map", "seq", "set", "omap", "pairs", "binary", "timestamp", "merge", "value")
    ]
    + [
        f"{_CORE}python/{name}"
        for name in ("tuple", "str", "unicode", "int", "float", "bool", "none", "complex", "list", "dict", "long", "bytes")
    ]
)
_TAGGED = re.compile(r"(?:^|[\s\[{,])!|^%TAG", re.MULTILINE)
_STRUCTURED = re.compile(r"^[ ]*(?:- |-$|[^\s#%!&*].*?:(?:[ \t]|$)|\"|'|\?[ ])", re.MULTILINE)


class NoYaml(Exception):
    """PyYAML is not installed."""


@dataclass
class Document:
    """What the events of a text say."""

    roots: list[str] = field(default_factory=list)
    """`mapping`, `sequence`, `scalar` or `alias` for each document."""
    fault: str = ""
    """Where and why it is no YAML; empty if it is."""
    acts: list[tuple[int, str, str, bool]] = field(default_factory=list)
    """(line, rule, why, heavy): what a loader would act on; not heavy is for a person to look at."""
    events: int = 0
    keys: dict[str, str] = field(default_factory=dict)
    """Scalar keys of the first document's root mapping, and their scalar values (empty where it is no scalar)."""


def looks_structured(text: str) -> bool:
    """A cheap look: whether some of the first lines could be a mapping or a sequence, or any tag is there at all."""
    return bool(_STRUCTURED.search(text[:65_536]) or _TAGGED.search(text))


def has_tags(text: str) -> bool:
    """Whether a tag could stand anywhere in it."""
    return bool(_TAGGED.search(text))


def read_events(text: str) -> Document:
    """All events, or those up to the fault. Raises `NoYaml`."""
    document = Document()
    walk = _Walk(document)
    try:
        for event in _parsed(text):
            walk.take(event)
    except _Stop as stop:
        document.acts.append((stop.line, stop.rule, str(stop), True))
    except _yaml().YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        document.fault = f"line {mark.line + 1}: {getattr(error, 'problem', '')}"[:200] if mark else str(error)[:200]
    except (ValueError, RecursionError, UnicodeError) as error:
        document.fault = str(error)[:200]
    return document


def plain_values(text: str) -> Any:
    """The first document as dicts, lists and the texts of its scalars, nothing resolved by tag. Only for a text whose events were read without
    a fault: depth, expansion and aliases are bounded there. Raises `NoYaml`."""
    yaml = _yaml()
    made: dict[int, Any] = {}

    def build(node: Any) -> Any:
        if id(node) not in made:
            if isinstance(node, yaml.MappingNode):
                made[id(node)] = {str(build(key)): build(value) for key, value in node.value}
            elif isinstance(node, yaml.SequenceNode):
                made[id(node)] = [build(item) for item in node.value]
            else:
                made[id(node)] = None if node.value in ("null", "~", "") and not node.style else node.value
        return made[id(node)]

    root = next(iter(yaml.compose_all(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))), None)
    return None if root is None else build(root)


def _yaml() -> Any:
    try:
        import yaml
    except ImportError as error:
        raise NoYaml from error
    return yaml


def _parsed(text: str) -> Iterator[Any]:
    yaml = _yaml()
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    yield from yaml.parse(text, Loader=loader)


class _Stop(Exception):
    def __init__(self, line: int, rule: str, why: str) -> None:
        super().__init__(why)
        self.line, self.rule = line, rule


@dataclass
class _Open:
    """A collection whose end has not come."""

    kind: str
    anchor: str
    size: int = 1
    keys: set[str] = field(default_factory=set)
    key: str | None = None
    """The scalar key whose value comes next; None where a key comes next."""
    expects_key: bool = True


class _Walk:
    """Takes one event after the other."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self._open: list[_Open] = []
        self._sizes: dict[str, int] = {}

    def take(self, event: Any) -> None:
        document, kind = self._document, type(event).__name__
        document.events += 1
        line = event.start_mark.line + 1
        if document.events > MAX_EVENTS:
            raise _Stop(line, "events", f"it has more than {MAX_EVENTS} values")
        if kind == "DocumentStartEvent":
            self._sizes = {}
        elif kind == "ScalarEvent":
            self._tag(event, line)
            self._scalar(event.value, line)
            self._value(1, event.anchor, "scalar", event.value, line)
        elif kind == "AliasEvent":
            if event.anchor not in self._sizes:
                raise _Stop(line, "alias", "an alias refers to what is not there, or to what it is part of itself")
            self._value(self._sizes[event.anchor], None, "alias", "", line)
        elif kind in ("SequenceStartEvent", "MappingStartEvent"):
            self._tag(event, line)
            self._open.append(_Open("mapping" if kind[0] == "M" else "sequence", event.anchor or ""))
            if len(self._open) > MAX_DEPTH:
                raise _Stop(line, "depth", f"its collections lie deeper than {MAX_DEPTH} within each other")
        elif kind in ("SequenceEndEvent", "MappingEndEvent"):
            ended = self._open.pop()
            self._value(ended.size, ended.anchor, ended.kind, "", line)

    def _value(self, size: int, anchor: str | None, kind: str, text: str, line: int) -> None:
        """A whole value has been read: it counts for what holds it."""
        if size > MAX_EXPANDED:
            raise _Stop(line, "expansion", f"with its aliases written out it has more than {MAX_EXPANDED} values")
        if anchor:
            self._sizes[anchor] = size
        if not self._open:
            self._document.roots.append(kind)
            return
        holder = self._open[-1]
        holder.size += size
        if holder.kind != "mapping":
            return
        if holder.expects_key:
            holder.key = text if kind == "scalar" else None
            if kind == "scalar" and text != "<<" and text in holder.keys:
                raise _Stop(
                    line,
                    "duplicate-key",
                    f"the key `{_shown(text)}` occurs twice in one mapping, and readers differ in which one they take",
                )
            holder.keys.add(text) if kind == "scalar" else None
        else:
            self._pair(holder.key, text if kind == "scalar" else None, line)
        holder.expects_key = not holder.expects_key

    def _pair(self, key: str | None, value: str | None, line: int) -> None:
        if key is None:
            return
        if len(self._open) == 1 and not self._document.roots and len(self._document.keys) < 1_000:
            self._document.keys[key] = value or ""
        if key == TARGET and not harmless_target(value):
            self._act(line, "target", f"hydra imports and calls `{_shown(value or '')}`", heavy=True)
        if key.startswith("py/") or key in ("__reduce__", "__lambda__"):
            self._act(line, "acting-key", f"loaders import and call what `{_shown(key)}` names", heavy=True)

    def _tag(self, event: Any, line: int) -> None:
        tag = event.tag
        if tag is None or tag == "!" or tag in _PLAIN_TAGS:
            return
        heavy = "python" in tag or "ruby" in tag or "java" in tag or tag.startswith(_CORE)
        why = f"the tag `{_shown(tag)}` makes a loader construct what it names"
        self._act(line, "tag", why, heavy=heavy)

    def _scalar(self, text: str, line: int) -> None:
        """Rule 4; OmegaConf's `${resolver:...}` reads the environment, or whatever a resolver does."""
        if "(" in text and len(text) <= MAX_EXPRESSION and _reaching(text):
            self._act(line, "expression", f"`{_shown(text)}` is code, which trainers that evaluate their configuration run", heavy=True)
        if "${" in text and ("${oc.env:" in text or "${eval:" in text):
            self._act(line, "resolver", f"`{_shown(text)}` is worked out from outside the file when it is loaded", heavy=False)

    def _act(self, line: int, rule: str, why: str, *, heavy: bool) -> None:
        if len(self._document.acts) < 20:
            self._document.acts.append((line, rule, why, heavy))


def _reaching(text: str) -> bool:
    """Whether the text is one Python expression that reaches outside."""
    try:
        tree = ast.parse(text.strip(), mode="eval")
        module = ast.Module(body=[ast.Expr(tree.body)], type_ignores=[])
        return any(found.weight == "refused" for found in judge(text, module)) or _names_module(tree)
    except (SyntaxError, ValueError, RecursionError, MemoryError, Unparsable):
        return False


def _names_module(tree: ast.Expression) -> bool:
    """A call of `os.system`, `subprocess.run` ...: the evaluator has these modules imported."""
    calls = (node.func for node in ast.walk(tree) if isinstance(node, ast.Call))
    return any(isinstance(func, ast.Attribute) and isinstance(func.value, ast.Name) and func.value.id in HIDDEN_MODULES for func in calls)


def _shown(text: str) -> str:
    return text[:100].encode("ascii", "backslashreplace").decode("ascii").replace("`", "'").replace("\n", "\\n")
