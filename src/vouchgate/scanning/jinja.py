"""Chat templates by an allow-list over their syntax tree; nothing is rendered (CVE-2024-34359 and its kin).

A template is a program that some loaders run in a sandbox, others without one. What passes here is harmless in both.

Rules
1. Statements, expressions, filters and tests come from the lists below; what includes, imports or extends other templates does not.
2. A call goes to a function that every chat renderer provides, to a macro of this template, or to a method of text, lists and dicts in `METHODS`;
   never to the result of an expression. A name that is called is bound nowhere else.
3. No attribute or constant key begins with an underscore or is an introspection attribute of functions, frames and generators.
4. A key that is not a constant (`x[key]`) reaches attributes too (jinja2 `Environment.getitem`), so it must be a number, or come from data: text
   that the template itself puts together, or that holds an underscore in front, is refused there (template_text.py follows it).
5. What only wastes time or memory is refused as far as it can be seen: huge numbers, powers, a variable doubled in a loop.
"""

from __future__ import annotations

import string
from collections.abc import Iterator
from typing import Any

from vouchgate.scanning.scope import shown
from vouchgate.scanning.template_text import Flow, words
from vouchgate.scanning.verdict import Reason

MAX_TEMPLATE = 256 * 1024
"""Characters of one template; the longest in use have about 30,000."""
MAX_NUMBER = 1_000_000
"""Largest number in a template: they count messages and spaces."""
MAX_RANGE = 10_000
"""Constant argument of `range`; the sandbox of jinja2 stops at 100,000 a call, and loops nest."""
MAX_REASONS = 5
"""Reasons told about one template."""
REMEDY = "take the template from the model's original publisher, or write one that only loops over messages and prints them"

STATEMENTS = words("Template Output TemplateData If For Assign AssignBlock Macro CallBlock FilterBlock With Break Continue ExprStmt NSRef")
EXPRESSIONS = words(
    "Name Const List Tuple Dict Pair Keyword CondExpr Filter Test Call Getitem Getattr Slice Concat Compare Operand Add Sub Mul Div FloorDiv Mod"
    " And Or Not Neg Pos"
)
FUNCTIONS = frozenset({"raise_exception", "strftime_now", "range", "namespace", "dict"})
"""What transformers, vLLM, llama.cpp and llama-cpp-python all provide."""
FILTERS = words(
    "abs batch capitalize count d default dictsort e escape first float forceescape from_json groupby indent int items join last length list lower"
    " map max min reject rejectattr replace reverse round safe select selectattr slice sort string striptags sum title tojson trim truncate unique"
    " upper wordcount"
)
TESTS = words(
    "boolean defined divisibleby eq equalto escaped even false float ge greaterthan gt in integer iterable le lessthan lower lt mapping ne none"
    " number odd sameas sequence string true undefined upper == != < <= > >="
)
METHODS = words(
    "append capitalize copy count endswith extend find get index insert isalnum isalpha isdigit islower isnumeric isspace istitle isupper items"
    " join keys lower lstrip partition pop replace rfind rpartition rsplit rstrip split splitlines startswith strip title upper values"
)
LOOP_METHODS = frozenset({"cycle", "changed"})
HIDDEN = words("self super lipsum cycler joiner config request session g app environment url_for get_flashed_messages varargs")
"""Names under which jinja2 itself or a web framework hands in live objects."""
INTROSPECTION = words(
    "mro func_globals func_code func_closure func_defaults im_class im_func im_self gi_frame gi_code gi_yieldfrom cr_frame cr_code cr_await"
    " cr_origin ag_frame ag_code ag_await f_globals f_locals f_builtins f_code f_back tb_frame tb_next co_code co_consts modules builtins"
    " environ"
)
_BY_ATTRIBUTE = frozenset({"map", "selectattr", "rejectattr", "groupby", "sort", "sum", "min", "max", "unique", "join"})
_FIRST_IS_ATTRIBUTE = frozenset({"selectattr", "rejectattr", "groupby"})
_NAMES_A_TEST = {"select": 0, "reject": 0, "selectattr": 1, "rejectattr": 1}


def check(template: str, rule: str, where: str) -> tuple[Reason, ...]:
    """What speaks against a template, at most `MAX_REASONS`; `rule` is the format's name, `where` names the template."""
    try:
        faults = _faults(template)
    except ImportError:
        return (_missing(rule, where),)
    except RecursionError:
        faults = [(0, "it is nested too deeply to be followed")]
    return tuple(
        Reason(rule=f"{rule}:template", where=f"{where}, line {line}" if line else where, why=why, remedy=REMEDY)
        for line, why in faults[:MAX_REASONS]
    )


def internals(text: str, rule: str, where: str) -> tuple[Reason, ...]:
    """What of a text reaches for Python's internals if somebody renders it: rule 3 alone, for text that need not be a template at all."""
    if not ("{{" in text or "{%" in text) or not ("__" in text or "\\" in text) or len(text) > MAX_TEMPLATE:
        return ()
    try:
        from jinja2 import TemplateError, nodes
    except ImportError:
        return (_missing(rule, where),)
    try:
        tree = _environment().parse(text)
    except (TemplateError, ValueError, OverflowError, RecursionError):
        return ()
    reached = [(node.lineno, _reached(node)) for node in tree.find_all((nodes.Getattr, nodes.Getitem, nodes.Filter))]
    return tuple(
        Reason(rule=f"{rule}:template", where=f"{where}, line {line}", why=f"rendered as a template, {why}", remedy=REMEDY)
        for line, why in [(line, why) for line, why in reached if why][:MAX_REASONS]
    )


def _reached(node: Any) -> str:
    if kind(node) == "Getattr":
        name = str(node.attr)
    elif kind(node) == "Getitem":
        name = _constant(node.arg) or ""
    else:
        name = _constant(node.args[0] if node.args else None) or ""
    return _attribute(name) if name.startswith("__") else ""


def _missing(rule: str, where: str) -> Reason:
    return Reason(
        rule=f"{rule}:template-unread",
        where=where,
        why="jinja2 is not installed, so the template cannot be looked at",
        remedy="pip install 'vouchgate[scan]' and scan again",
        weight="incomplete",
    )


def _faults(template: str) -> list[tuple[int, str]]:
    from jinja2 import TemplateSyntaxError

    if len(template) > MAX_TEMPLATE:
        return [(0, f"it has {len(template)} characters, the bound is {MAX_TEMPLATE}")]
    try:
        tree = _environment().parse(template)
    except TemplateSyntaxError as error:
        return [(error.lineno, f"it is no template that can be read: {shown(error.message or '')[:120]}")]
    except (ValueError, OverflowError):
        return [(0, "it holds a number that cannot be read")]
    return list(_Check(tree).run())


def _environment() -> Any:
    """A parser with the tags that chat renderers know: loop controls, `do`, and the marks around what the assistant said."""
    from jinja2 import Environment
    from jinja2.ext import Extension

    class Generation(Extension):
        """`{% generation %}` of transformers: its body stands for itself."""

        tags = {"generation"}

        def parse(self, parser: Any) -> Any:
            """The body's own nodes."""
            next(parser.stream)
            return parser.parse_statements(("name:endgeneration",), drop_needle=True)

    return Environment(extensions=["jinja2.ext.loopcontrols", "jinja2.ext.do", Generation], autoescape=False)  # noqa: S701


class _Check:
    """One pass over a template's tree."""

    def __init__(self, tree: Any) -> None:
        from jinja2 import nodes

        self._nodes = list(tree.find_all(nodes.Node))
        self._flow = Flow(self._nodes)
        self._recursive = any(kind(node) == "For" and node.recursive for node in self._nodes)

    def run(self) -> Iterator[tuple[int, str]]:
        """Faults with their line."""
        for node in self._nodes:
            name = kind(node)
            if name not in STATEMENTS and name not in EXPRESSIONS:
                yield node.lineno, f"it uses `{name.lower()}`, which no chat template needs"
                continue
            rule = getattr(self, f"_{name.lower()}", None)
            why = rule(node) if rule else ""
            if why:
                yield node.lineno, why
        if self._flow.endless:
            yield 0, "its variables refer to each other in too many steps to be followed"

    def _name(self, node: Any) -> str:
        if node.name in HIDDEN or (node.name.startswith("_") and node.ctx == "load" and node.name not in self._flow.bound):
            return f"it uses `{shown(node.name)}`, through which a renderer's own objects are reached"
        return ""

    def _const(self, node: Any) -> str:
        value = node.value
        if isinstance(value, (int, float)) and abs(value) > MAX_NUMBER:
            return f"it holds the number {str(value)[:20]}, over the bound of {MAX_NUMBER}"
        return ""

    def _getattr(self, node: Any) -> str:
        return _attribute(node.attr)

    def _getitem(self, node: Any) -> str:
        key = node.arg
        if kind(key) == "Const":
            return _attribute(key.value) if isinstance(key.value, str) else ""
        if kind(key) == "Slice" or self._flow.is_plain_key(key):
            return ""
        return "it takes a key that it puts together itself, which may name any attribute"

    def _call(self, node: Any) -> str:
        if node.dyn_args is not None or node.dyn_kwargs is not None:
            return "it calls with arguments unpacked from a value"
        callee = node.node
        if kind(callee) == "Name":
            return self._function(callee.name, node)
        if kind(callee) != "Getattr":
            return "it calls the result of an expression"
        if callee.attr == "format":
            return _format(callee.node)
        if kind(callee.node) == "Name" and callee.node.name == "loop" and callee.attr in LOOP_METHODS:
            return ""
        return "" if callee.attr in METHODS else f"it calls the method `{shown(callee.attr)}`, which no chat template needs"

    def _function(self, name: str, node: Any) -> str:
        flow = self._flow
        if name in flow.macros or name == "caller" or (name == "loop" and self._recursive):
            return f"it calls `{shown(name)}`, which it also binds to a value" if name in flow.values else ""
        if name not in FUNCTIONS:
            return f"it calls `{shown(name)}`, which is no function that chat renderers provide"
        if name in flow.bound:
            return f"it calls `{shown(name)}`, a name that it binds itself"
        if name == "range" and any(kind(one) == "Const" and isinstance(one.value, int) and abs(one.value) > MAX_RANGE for one in node.args):
            return f"it counts further than {MAX_RANGE}"
        return ""

    def _filter(self, node: Any) -> str:
        if node.name not in FILTERS:
            return f"it uses the filter `{shown(node.name)}`, which no chat template needs"
        if node.dyn_args is not None or node.dyn_kwargs is not None:
            return "it hands a filter arguments unpacked from a value"
        return _filter_arguments(node)

    def _test(self, node: Any) -> str:
        return "" if node.name in TESTS else f"it uses the test `{shown(node.name)}`, which no chat template needs"

    def _mul(self, node: Any) -> str:
        nested = any(kind(one) == "Mul" and not self._flow.is_number(one) for one in (node.left, node.right))
        return "it multiplies text again and again" if nested else ""

    def _assign(self, node: Any) -> str:
        target = node.target
        name = kind(target)
        if name not in {"Name", "NSRef"} or kind(node.node) not in {"Add", "Concat", "Mul"}:
            return ""
        return "it doubles a value at each step" if self._flow.mentions(node.node, target) > 1 else ""


def kind(node: Any) -> str:
    """The name of a node's class."""
    return type(node).__name__


def _attribute(name: str) -> str:
    if name.startswith("_") or "__" in name:
        return f"it reaches for `{shown(name)}`, which is how templates get at Python's internals"
    return f"it reaches for `{shown(name)}`, which belongs to functions and frames" if name in INTROSPECTION else ""


def _format(pattern: Any) -> str:
    """`'...'.format(...)` where the text is constant and its fields are plain: a field may name attributes (`{0.a}`)."""
    if kind(pattern) != "Const" or not isinstance(pattern.value, str):
        return "it formats with a pattern that is not constant, which may name any attribute"
    try:
        fields = list(string.Formatter().parse(pattern.value))
    except ValueError:
        return "it formats with a pattern that cannot be read"
    if any((field and not (field.isidentifier() or field.isdigit())) or spec for _, field, spec, _ in fields):
        return "it formats with a pattern that names attributes, or widths"
    return ""


def _filter_arguments(node: Any) -> str:
    """Attribute paths are constants without underscores in front; what `map` and `select` apply by name is in the lists."""
    keywords = {pair.key: pair.value for pair in node.kwargs}
    paths = [keywords["attribute"]] if "attribute" in keywords else []
    if node.name in _FIRST_IS_ATTRIBUTE:
        paths += node.args[:1]
    if node.name == "join":
        paths += node.args[1:2]
    elif node.name in {"min", "max", "sum", "unique", "sort"}:
        paths += [one for one in node.args if kind(one) != "Const" or isinstance(one.value, str)]
    for path in paths if node.name in _BY_ATTRIBUTE else []:
        why = _path(path)
        if why:
            return why
    if node.name == "map" and node.args and _constant(node.args[0]) not in FILTERS:
        return "it maps a filter that is not constant, or that no chat template needs"
    if node.name == "map" and _constant(node.args[0] if node.args else None) in _BY_ATTRIBUTE | set(_NAMES_A_TEST):
        return "it maps a filter that takes attributes"
    place = _NAMES_A_TEST.get(node.name)
    if place is not None and len(node.args) > place and _constant(node.args[place]) not in TESTS:
        return "it selects by a test that is not constant, or that no chat template needs"
    return ""


def _path(node: Any) -> str:
    path = _constant(node)
    if kind(node) == "Const" and isinstance(node.value, int):
        return ""
    if path is None:
        return "it names an attribute by a value that is not constant"
    return next((why for why in map(_attribute, path.replace(",", ".").split(".")) if why), "")


def _constant(node: Any) -> str | None:
    return node.value if node is not None and kind(node) == "Const" and isinstance(node.value, str) else None
