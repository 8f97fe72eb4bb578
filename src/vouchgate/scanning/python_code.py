"""Judges Python source by its syntax tree, default-deny: which names it reaches, and whether they do more than compute.

Rules
1. Nothing is imported or run. Imports give local names a meaning; an attribute chain is followed from there.
2. Unknown modules, and names that are bound to a module and then handed on, are put before a person (`review`); what runs programs,
   evaluates text, reaches the network, the interpreter or other files is `refused`.
3. Attributes with two underscores, reached from anything, are refused but for a few that reach nothing (python_names.PLAIN_DUNDERS).
4. Text whose characters hide what it does is refused (CVE-2021-42574).
5. A verdict says what the code would do when a person runs it; it is never a reason to run it.
"""

from __future__ import annotations

import ast
import posixpath
from collections.abc import Iterable
from dataclasses import dataclass, field
from html.parser import HTMLParser

from vouchgate.scanning import python_names as known
from vouchgate.scanning.plain_text import hidden_in_code
from vouchgate.scanning.verdict import Weight

MAX_SOURCE = 512 * 1024
"""Characters of source that are parsed: a syntax tree takes up to 10 s and 200 bytes a character."""
MAX_FOUND = 20
"""Findings kept of one source."""
TRUSTING = frozenset(("trust_remote_code", "allow_pickle", "enable_unsafe_deserialization", "custom_pipeline", "shell"))
"""Keyword arguments that let what is loaded run code."""
GUARDING = frozenset(("weights_only", "safe_mode"))
"""Keyword arguments that must not be switched off."""


@dataclass(frozen=True)
class Found:
    """One thing that the code does."""

    line: int
    rule: str
    why: str
    weight: Weight


class Unparsable(Exception):
    """The text is no Python of this version, or too long."""


def parse(source: str) -> ast.Module:
    """The syntax tree. Raises `Unparsable`."""
    if len(source) > MAX_SOURCE:
        raise Unparsable(f"it is over {MAX_SOURCE} characters")
    try:
        return ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise Unparsable(str(error.args[0] if error.args else error)[:120]) from error


def is_program(source: str, tree: ast.Module) -> bool:
    """Whether running it would do anything: word lists, tables and `key = 1` lines parse as Python too, and so do remarks (in brackets)."""
    if all(isinstance(node, ast.Expr | ast.Pass) or _no_value(node) for node in tree.body):
        return any(isinstance(node, _DOING) for node in ast.walk(tree)) and any(judge(source, tree))
    waiting: list[ast.AST] = list(tree.body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, _DOING):
            return True
        waiting.extend(() if _no_value(node) else ast.iter_child_nodes(node))
    return False


_DOING = (
    ast.Call, ast.Import, ast.ImportFrom, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda, ast.For, ast.While, ast.If, ast.With,
    ast.Try, ast.Raise, ast.Delete, ast.Assert, ast.comprehension, ast.Await, ast.Match, ast.AugAssign, ast.NamedExpr, ast.JoinedStr,
    ast.AsyncFor, ast.AsyncWith, ast.TryStar,
)  # fmt: skip


def _no_value(node: ast.AST) -> bool:
    """`key: value` of another language; its annotation is judged once anything else makes the text a program."""
    return isinstance(node, ast.AnnAssign) and node.value is None


def judge(source: str, tree: ast.Module | None = None) -> tuple[Found, ...]:
    """What the source does beyond computing. Raises `Unparsable`."""
    if tree is None:
        tree = parse(source)
    found = _Judge(bound=_bindings(tree))
    place = hidden_in_code(source)
    if place >= 0:
        found.say(source.count("\n", 0, place) + 1, "hidden", "it holds characters that make code look other than it runs", "refused")
    try:
        found.visit(tree)
    except RecursionError as error:
        raise Unparsable("it is nested too deeply") from error
    return tuple(found.found)


Names = dict[str, frozenset[str]]
"""Local name -> every dotted name that an import, or an assignment of one, gives it anywhere: no order and no scope is relied on."""
ALIAS_ROUNDS = 4
"""Assignments of assignments that are followed; beyond it the name is an unknown object."""


def _bindings(tree: ast.Module) -> Names:
    bound: dict[str, set[str]] = {}
    assigned: list[tuple[str, ast.expr]] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for name in node.names:
                bound.setdefault(name.asname or name.name.partition(".")[0], set()).add(
                    name.name if name.asname else name.name.partition(".")[0]
                )
        elif isinstance(node, ast.ImportFrom) and not node.level:
            for one in node.names:
                bound.setdefault(one.asname or one.name, set()).add(f"{node.module}.{one.name}")
        elif isinstance(node, ast.Assign):
            assigned += [(target.id, node.value) for target in node.targets if isinstance(target, ast.Name)]
        elif isinstance(node, ast.NamedExpr | ast.AnnAssign) and node.value is not None and isinstance(node.target, ast.Name):
            assigned.append((node.target.id, node.value))
    aliases = [(local, *chain) for local, value in assigned if (chain := _chain(value))]
    for _ in range(ALIAS_ROUNDS):
        for local, base, rest in aliases:
            bound.setdefault(local, set()).update(f"{one}{rest}" for one in tuple(bound.get(base, ())) if len(one) < MAX_DOTTED)
    return {local: frozenset(names) for local, names in bound.items() if names}


MAX_DOTTED = 200
"""Characters of a dotted name that an alias may build up."""


def _chain(node: ast.expr) -> tuple[str, str] | None:
    """`a.b.c` as ("a", ".b.c"); None for anything else."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(f".{node.attr}")
        node = node.value
    return (node.id, "".join(reversed(parts))) if isinstance(node, ast.Name) else None


@dataclass
class _Judge(ast.NodeVisitor):
    """One walk over one tree."""

    found: list[Found] = field(default_factory=list)
    bound: Names = field(default_factory=dict)
    skip: set[int] = field(default_factory=set)
    """Nodes that a wider expression has answered for."""

    def say(self, line: int, rule: str, why: str, weight: Weight) -> None:
        if len(self.found) < MAX_FOUND or (weight == "refused" and all(kept.weight != "refused" for kept in self.found)):
            self.found.append(Found(line, rule, why, weight))

    def visit_Import(self, node: ast.Import) -> None:
        for name in node.names:
            self._imported(node, name.name)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        module = node.module or ""
        if node.level:
            self.say(node.lineno, "import", "it imports from a package of its own, which was not looked at", "review")
            return
        for name in node.names:
            self._imported(node, f"{module}.{name.name}" if name.name != "*" else module)
            if name.name == "*" and module.partition(".")[0] in (*known.NARROW, *known.PARTLY):
                self.say(node.lineno, "import", f"it imports everything of `{module}`", "refused")

    def _imported(self, node: ast.AST, dotted: str) -> None:
        root = dotted.partition(".")[0]
        if root in known.COMPUTING:
            self._member(node, dotted)
        elif root in known.NARROW or root in known.PARTLY:
            if "." in dotted:
                self._member(node, dotted)
        else:
            dangerous = root in known.HIDDEN_MODULES
            why = f"it imports `{dotted}`, which reaches outside" if dangerous else f"it imports `{dotted}`, of which nothing is known"
            self.say(_line(node), "import", why, "refused" if dangerous else "review")

    def _member(self, node: ast.AST, dotted: str) -> None:
        """Rule 2 for a whole dotted name."""
        root, _, rest = dotted.partition(".")
        parts = rest.split(".") if rest else []
        inside = next((part for part in parts if part.lstrip("_") in known.HIDDEN_MODULES), "")
        if inside and root not in known.NARROW:
            self.say(_line(node), "reaches", f"`{dotted}` reaches the module `{inside}` through another one", "refused")
            return
        if root in known.NARROW:
            if rest and not _allowed(known.NARROW[root], rest):
                self.say(_line(node), "acts", f"`{dotted}` is not among the members of `{root}` that are known to be harmless", "refused")
        elif root in known.PARTLY:
            if parts and parts[0] not in known.PARTLY_FREE:
                looked = known.REVIEWED_CALLS.get(f"{root}.{parts[0]}", "")
                self.say(_line(node), "unpickles", f"`{dotted}` runs what the file that it loads says", "review" if looked else "refused")
        else:
            self._computing(node, dotted)

    def _computing(self, node: ast.AST, dotted: str) -> None:
        parts = dotted.split(".")
        for length in range(2, len(parts) + 1):
            prefix = ".".join(parts[:length])
            if known.ACTING.get(prefix):
                self.say(_line(node), "acts", f"`{dotted}` {known.ACTING[prefix]}", "refused")
                return
            if known.REVIEWED_CALLS.get(prefix):
                self.say(_line(node), "unpickles", f"`{dotted}` runs what the file that it loads says", "review")
                return

    def visit_Name(self, node: ast.Name) -> None:
        if node.id in known.DENIED_BUILTINS:
            self.say(node.lineno, "evaluates", f"`{node.id}` makes text into code, or reaches everything", "refused")
        elif not isinstance(node.ctx, ast.Load) or id(node) in self.skip:
            return
        elif node.id in ("get_ipython", "open", *known.REFLECTING_BUILTINS):
            self.say(node.lineno, "acts", f"`{node.id}` is handed on, so that what it is used for is not seen", "review")
        for dotted in sorted(self.bound.get(node.id, ())):
            root, _, rest = dotted.partition(".")
            if not rest:
                weight: Weight = "review" if root in known.COMPUTING else "refused"
                self.say(node.lineno, "acts", f"the module `{dotted}` is handed on, so that what it is used for is not seen", weight)
            else:
                self._member(node, dotted)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        attribute = node.attr
        dotted = self._dotted(node)
        for name in dotted:
            self._member(node, name)
        if dotted:
            return
        self._dunder(node, attribute)
        if attribute in known.RUNNING_METHODS:
            self.say(node.lineno, "acts", f"`.{attribute}` runs something, whatever it is asked of", "refused")
        elif attribute in known.WRITING_METHODS and any(name.startswith("pathlib") for names in self.bound.values() for name in names):
            self.say(node.lineno, "writes", f"`.{attribute}` changes files", "review")
        self.generic_visit(node)

    def _dunder(self, node: ast.AST, attribute: str) -> None:
        """Rule 3."""
        if attribute.startswith("__") and attribute.endswith("__") and attribute not in known.PLAIN_DUNDERS:
            self.say(_line(node), "reflects", f"`{attribute}` reaches the inside of the interpreter", "refused")

    def _dotted(self, node: ast.expr) -> tuple[str, ...]:
        """The dotted names that a chain may mean, if it begins at an imported name; its nodes are then answered for."""
        found = _chain(node)
        if found is None or found[0] not in self.bound or found[0] in known.DENIED_BUILTINS:
            return ()
        self.skip.add(id(node))
        while isinstance(node, ast.Attribute):
            self._dunder(node, node.attr)
            node = node.value
            self.skip.add(id(node))
        return tuple(sorted(f"{base}{found[1]}" for base in self.bound[found[0]]))

    def visit_Assign(self, node: ast.Assign) -> None:
        for name in self._dotted(node.value):
            self._member(node, name)
            if not all(isinstance(target, ast.Name) for target in node.targets) and name.partition(".")[0] not in known.COMPUTING:
                self.say(node.lineno, "acts", f"`{name}` is handed on, so that what it is used for is not seen", "refused")
        for target in node.targets:
            self.visit(target)
        if id(node.value) not in self.skip:
            self.visit(node.value)

    def visit_Subscript(self, node: ast.Subscript) -> None:
        dotted = self._dotted(node.value)
        if "os.environ" in dotted:
            key = node.slice.value if isinstance(node.slice, ast.Constant) else None
            if not isinstance(node.ctx, ast.Load) and key not in known.SETTABLE:
                self.say(node.lineno, "environment", "it sets a variable of the environment that can change which code runs", "refused")
            dotted = tuple(name for name in dotted if name != "os.environ")
        for name in dotted:
            self._member(node, name)
        if id(node.value) not in self.skip:
            self.visit(node.value)
        self.visit(node.slice)

    def visit_Call(self, node: ast.Call) -> None:
        name = node.func.id if isinstance(node.func, ast.Name) else ""
        dotted = self._dotted(node.func)
        self._keywords(node)
        if name in known.REFLECTING_BUILTINS:
            self.skip.add(id(node.func))
            self._reflection(node, name)
        elif name == "open":
            self.skip.add(id(node.func))
            self._open(node)
        elif name == "type" and len(node.args) == 3:
            self.say(node.lineno, "reflects", "it makes a class while it runs", "review")
        elif isinstance(node.func, ast.Attribute) and node.func.attr in ("eval", "query") and node.args:
            self._expression(node)
        for one in dotted:
            self._member(node, one)
            self._call_of(node, one)
        parts: Iterable[ast.AST] = (*node.args, *node.keywords)
        if id(node.func) not in self.skip:
            self.visit(node.func)
        for part in parts:
            self.visit(part)

    def _call_of(self, node: ast.Call, dotted: str) -> None:
        if dotted.endswith(("display.HTML", "display.SVG", "display.Markdown")):
            text = node.args[0].value if node.args and isinstance(node.args[0], ast.Constant) else None
            if text is None:
                return
            if isinstance(text, str) and acting_markup(text):
                self.say(node.lineno, "markup", "the page that it shows runs a script", "refused")

    def _keywords(self, node: ast.Call) -> None:
        for keyword in node.keywords:
            value = keyword.value.value if isinstance(keyword.value, ast.Constant) else ...
            if keyword.arg in TRUSTING and value not in (False, None):
                weight: Weight = "review" if keyword.arg == "allow_pickle" else "refused"
                self.say(node.lineno, "trusts", f"`{keyword.arg}` lets what is loaded run code", weight)
            if keyword.arg in GUARDING and value is not True:
                self.say(node.lineno, "trusts", f"`{keyword.arg}` is switched off, so what is loaded may run code", "refused")

    def _reflection(self, node: ast.Call, name: str) -> None:
        wanted = node.args[1].value if len(node.args) > 1 and isinstance(node.args[1], ast.Constant) else None
        if not isinstance(wanted, str):
            self.say(node.lineno, "reflects", f"`{name}` reaches an attribute whose name only running it tells", "review")
        elif (wanted.startswith("__") and wanted not in known.PLAIN_DUNDERS) or wanted in known.RUNNING_METHODS:
            self.say(node.lineno, "reflects", f"`{name}` reaches `{wanted}`", "refused")
        for base in self._dotted(node.args[0]) if node.args else ():
            if isinstance(wanted, str):
                self._member(node, f"{base}.{wanted}")
            else:
                self.say(node.lineno, "reflects", f"it reaches into `{base}` by a name that only running it tells", "refused")

    def _open(self, node: ast.Call) -> None:
        path = node.args[0].value if node.args and isinstance(node.args[0], ast.Constant) else None
        if isinstance(path, str) and (posixpath.isabs(path) or path.startswith("~") or ".." in path.replace("\\", "/").split("/")):
            self.say(node.lineno, "file", "it opens a file outside its own folder", "refused")
        mode = node.args[1] if len(node.args) > 1 else next((word.value for word in node.keywords if word.arg == "mode"), None)
        text = mode.value if isinstance(mode, ast.Constant) else ("r" if mode is None else "w")
        if isinstance(text, str) and set(text) & set("wax+") and not isinstance(path, str):
            self.say(node.lineno, "file", "it writes a file whose name only running it tells", "review")

    def _expression(self, node: ast.Call) -> None:
        """`DataFrame.eval` and `query` evaluate an expression in which `@name` reaches the caller's variables."""
        text = node.args[0].value if isinstance(node.args[0], ast.Constant) else None
        if isinstance(text, str) and ("__" in text or ("@" in text and "(" in text)):
            self.say(node.lineno, "evaluates", "the expression that it evaluates calls code", "refused")


def acting_markup(text: str) -> bool:
    """Whether a page, or a part of one, would run something when it is shown."""
    acts: list[str] = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            if tag in ("script", "iframe", "object", "embed", "applet", "base", "form", "meta", "link", "frame"):
                acts.append(tag)
            for name, value in attrs:
                address = "".join((value or "").split()).lower()
                if (
                    name.startswith("on")
                    or address.startswith(("javascript:", "vbscript:", "data:text/html"))
                    or name in ("srcdoc", "formaction")
                ):
                    acts.append(name)

        handle_startendtag = handle_starttag

    reader = Reader(convert_charrefs=True)
    reader.feed(text)
    reader.close()
    return bool(acts)


def _allowed(members: frozenset[str], rest: str) -> bool:
    parts = rest.split(".")
    return rest in members or any(f"{'.'.join(parts[:length])}.*" in members for length in range(1, len(parts)))


def _line(node: ast.AST) -> int:
    return getattr(node, "lineno", 0)
