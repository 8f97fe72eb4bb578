"""Judge: which names of a wheel the rules alone let in, and for which use.

Rules
1. A function is `inert` if nothing it can reach has any mark: whoever holds it may call it with anything. Nor may it reach code or the outside by a
   method of what it may make itself.
2. A class is `constructible` if every base can be looked into, and
   a. what loading runs by itself reaches no mark at all: `__new__`, `__setstate__`, setters, `__getattr__`, hashing, comparing, filling, `__del__`;
   b. what later use runs without naming it (`__call__`, `__len__`, `__array__`, properties ...) reaches neither code nor the outside nor a library that was not read;
   c. none of its other methods turns what lies in the instance into code, and none that can be called with nothing acts on the outside, as far as
      its own module shows;
   d. none of its methods, nor anything they reach in any module, hands on what it took from a value by a computed name (`picked`): names and values lie
      in the instance, and together they would be any call at all. Of its own methods it may pick where none of them acts.
3. A class is also `inert` if it is constructible and making an instance with any arguments reaches no mark.
4. A class takes the rule for its states from the nearest class that it derives from and that rules.toml names under `states`.
5. Nothing is ever let in as `callable` by rules. Tests, setup code and what rules.toml leaves out are not judged.
6. A name stands for all versions that were read: where one of them speaks against it, it is left out.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from knowledge.graph import MAKERS, Graph, Node
from knowledge.resolve import Universe
from knowledge.rules import Rules
from knowledge.summary import Class, Wheel

LOADING = (
    "__new__", "__setstate__", "__setstate_cython__", "__getattr__", "__getattribute__", "__setattr__", "__delattr__", "__del__", "__hash__", "__eq__", "append", "extend",
    "add", "__setitem__", "__missing__", "__dict__", "__class__", "__set__", "__set_name__",
)  # fmt: skip
"""What unpickling calls without being told (pickle.py: load_build, load_appends, load_setitems, load_additems, load_newobj)."""
IMPLICIT = (
    "__call__", "__repr__", "__str__", "__format__", "__bytes__", "__len__", "__length_hint__", "__bool__", "__int__", "__float__", "__complex__", "__index__",
    "__iter__", "__next__", "__reversed__", "__contains__", "__getitem__", "__delitem__", "__lt__", "__le__", "__gt__", "__ge__", "__ne__", "__get__",
    "__delete__", "__enter__", "__exit__", "__aenter__", "__aexit__", "__await__", "__add__", "__radd__", "__iadd__", "__sub__", "__rsub__", "__mul__",
    "__rmul__", "__matmul__", "__rmatmul__", "__truediv__", "__rtruediv__", "__floordiv__", "__mod__", "__pow__", "__neg__", "__abs__", "__invert__",
    "__and__", "__or__", "__xor__", "__round__", "__array__", "__array_ufunc__", "__array_function__", "__array_wrap__", "__array_finalize__",
    "__array_prepare__", "__array_interface__", "__array_struct__", "__arrow_array__", "__torch_function__", "__torch_dispatch__", "__dlpack__", "__fspath__", "__copy__",
    "__deepcopy__", "__reduce__", "__reduce_ex__", "__getstate__", "__getnewargs__", "__getnewargs_ex__", "__dir__", "__sizeof__", "__instancecheck__",
    "__sklearn_tags__", "__sklearn_clone__", "__sklearn_is_fitted__", "_repr_html_", "_repr_mimebundle_", "_repr_pretty_", "_repr_png_", "_repr_svg_",
)  # fmt: skip
"""What Python, numpy, torch or a notebook call on a value that somebody merely uses."""
ANY = frozenset({"code", "outside", "foreign", "unknown", "dynamic", "patch", "picked"})
ACTS = frozenset({"code", "outside", "foreign"})
ACTS_ITSELF = frozenset({"code", "outside"})
CODE = frozenset({"code"})
PICKED, PICKED_SELF = frozenset({"picked"}), frozenset({"picked-self"})


class Judged(msgspec.Struct, frozen=True, array_like=True):
    """What the rules say of one name."""

    module: str
    name: str
    uses: tuple[str, ...]
    why_not: str = ""
    """For what is not let in: the way to what speaks against it."""
    state: str = ""
    """The rule for its states, where a class that it derives from hands one down."""


def judge(wheel: Wheel, universe: Universe, rules: Rules) -> Iterator[Judged]:
    """Every function and class that the wheel defines."""
    graph = Graph(universe, rules)
    for module, summary in sorted(wheel.modules.items()):
        if universe.modules[module] is not summary or rules.is_code(module + ".x"):
            continue
        for name in sorted(summary.functions):
            node: Node = ("f", module, name, "")
            why = _accepted(rules, module, name) or graph.reach([node], ANY) or graph.reach([node], ACTS_ITSELF, made=True)
            yield Judged(module, name, () if why else ("inert",), why)
        for name in sorted(summary.classes):
            yield (
                _class(graph, module, name)
                if not _accepted(rules, module, name)
                else Judged(module, name, (), _accepted(rules, module, name))
            )
        for name in summary.tuples:
            yield Judged(module, name, ("constructible",))


def _accepted(rules: Rules, module: str, name: str) -> str:
    return "accepted where it is called, which lets nobody else call it" if rules.is_accepted(f"{module}.{name}") else ""


def _class(graph: Graph, module: str, name: str) -> Judged:
    ancestors = graph.ancestors(module, name)
    if ancestors is None:
        return Judged(module, name, (), "a base or metaclass cannot be looked into")
    why = _against(graph, module, name)
    if why:
        return Judged(module, name, (), why)
    making = _accepted_maker(graph, ancestors) or graph.reach([("c", module, name, "")], ANY)
    state = next((rule for where, cls, _ in ancestors if (rule := graph.rules.state_of(f"{where}.{cls}"))), "")
    return Judged(module, name, ("constructible",) if making else ("inert", "constructible"), making, state)


def _accepted_maker(graph: Graph, ancestors: list[tuple[str, str, Class]]) -> str:
    """A constructor that is accepted where it is called, and not with all of its class, lets nobody call the class as a value."""
    paths = [
        f"{module}.{name}.{maker}"
        for module, name, cls in ancestors
        for maker in MAKERS
        if maker in cls.methods and not graph.rules.is_accepted(f"{module}.{name}")
    ]
    return next((f"{path} is accepted where it is called" for path in paths if graph.rules.is_accepted(path)), "")


def _against(graph: Graph, module: str, name: str) -> str:
    methods = {attribute for _, _, cls in graph.ancestors(module, name) or () for attribute in (*cls.methods, *cls.assigned)}
    setters = _of_kind(graph, module, name, "setter")
    properties = _of_kind(graph, module, name, "property")
    loading = [attribute for attribute in methods if attribute in LOADING or attribute in setters]
    forwarding = frozenset(ANY - {"patch"})
    why = graph.reach(_nodes(module, name, loading), forwarding)
    if why:
        return f"loading: {why}"
    implicit = [attribute for attribute in methods if attribute in IMPLICIT or attribute in properties]
    why = graph.reach(_nodes(module, name, implicit), ACTS)
    if why:
        return f"use: {why}"
    apart = _of_kind(graph, module, name, "class") | _of_kind(graph, module, name, "static")
    ordinary = [attribute for attribute in methods - apart if attribute not in LOADING]
    why = graph.reach(_nodes(module, name, ordinary), CODE, within=module) or _picks(graph, module, name, methods - apart - set(MAKERS))
    if why:
        return f"method: {why}"
    bare = [attribute for attribute in ordinary if attribute not in MAKERS and _is_bare(graph, module, name, attribute)]
    why = graph.reach(_nodes(module, name, bare), ACTS, within=module)
    return f"method without arguments: {why}" if why else ""


def _picks(graph: Graph, module: str, name: str, methods: set[str]) -> str:
    """Rule 2d: any method of any value by a name out of its state, or a method of its own that acts."""
    nodes = _nodes(module, name, sorted(methods))
    why = graph.reach(nodes, PICKED)
    if why or not graph.reach(nodes, PICKED_SELF):
        return why
    acts = graph.reach(nodes, ACTS, within=module)
    return f"one of its own methods by a computed name, among them {acts}" if acts else ""


def _is_bare(graph: Graph, module: str, name: str, attribute: str) -> bool:
    return any(function.bare for _, _, cls in graph.ancestors(module, name) or () for function in cls.methods.get(attribute, ()))


def _of_kind(graph: Graph, module: str, name: str, kind: str) -> set[str]:
    return {
        attribute
        for _, _, cls in graph.ancestors(module, name) or ()
        for attribute, functions in cls.methods.items()
        if any(function.kind == kind for function in functions)
    }


def _nodes(module: str, name: str, attributes: list[str]) -> list[Node]:
    return [("m", module, name, attribute) for attribute in sorted(attributes)]
