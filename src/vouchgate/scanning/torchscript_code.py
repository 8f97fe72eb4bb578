"""TorchScript's code, as syntax trees: whether it only computes with torch's operators and with what the archive itself defines.

Rules
1. TorchScript has Python's syntax, few of its statements and no imports. Its writer writes printable ASCII, and so must this be: what a Python
   parser reads is then what torch's reads.
2. An operator is `torch.<name>` or `ops.<library>.<name>`, or a method of any value (`text.from_file()` is `torch.from_file(text)`). Those
   that compute are listed (torchscript_operators.py).
3. An attribute or method that is no such operator must be declared by a class of the archive, and may not be named as an operator
   is that is not listed: nothing says of what type the value is.
4. `torch`, `ops`, `__torch__` and `CONSTANTS` are never bound, and never stand alone.
5. What touches files or other processes, and libraries that are not torch's own, are `refused`; whatever else is not known is for a person.
"""

from __future__ import annotations

import ast
import io
import tokenize
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from vouchgate.scanning.torchscript_operators import ATEN, CLOSED, PRIM, QUANTIZED, TORCHVISION
from vouchgate.scanning.verdict import Weight

MAX_SOURCE = 16 * 1024**2
"""Bytes of one file of code; the largest traced models have about 5 MiB."""
LIBRARIES: Mapping[str, frozenset[str]] = {"aten": ATEN, "prim": PRIM, "quantized": QUANTIZED, "torchvision": TORCHVISION}
OWN_LIBRARIES = frozenset(
    {"prims", "quantized_decomposed", "mkldnn", "mkldnn_prepacked", "sparse", "onednn", "rnn", "profiler", "torchaudio"}
)
"""Registered by torch and its companions too, and known only by a person."""
ACTING = frozenset(
    {"save", "load", "from_file", "read_file", "write_file", "_save", "_load", "rpc_async", "rpc_sync", "rpc_remote", "load_library"}
)
"""Operators, of any library, that touch files or other processes."""
ROOTS = frozenset({"torch", "ops", "__torch__", "CONSTANTS"})
CLASSES = "__torch__.torch.classes."
"""Classes that torch implements itself, in C++."""
NATIVE = frozenset(
    f"{CLASSES}quantized.{name}"
    for name in ("LinearPackedParamsBase", "Conv2dPackedParamsBase", "Conv3dPackedParamsBase", "EmbeddingPackedParamsBase")
)
"""Those of them that hold packed weights and nothing else."""
BUILTINS = frozenset(
    {
        "annotate", "unchecked_cast", "uninitialized", "isinstance", "int", "float", "bool", "str", "complex", "len", "range", "zip", "enumerate", "sorted",
        "getattr", "hasattr", "min", "max", "abs", "all", "any", "divmod", "list", "dict", "tuple", "ord", "chr", "bin", "hex", "oct", "hash", "round",
        "rangelist", "fork", "awaitable", "print", "pow", "sum", "id", "reversed",
    }
)  # fmt: skip
"""Functions that stand under their own name; `fork` runs a function of the file's in another thread."""
_STATEMENTS = (
    ast.Module, ast.ClassDef, ast.FunctionDef, ast.Return, ast.Assign, ast.AnnAssign, ast.AugAssign, ast.For, ast.While, ast.If, ast.With, ast.Raise,
    ast.Assert, ast.Expr, ast.Pass, ast.Break, ast.Continue,
)  # fmt: skip
_EXPRESSIONS = (
    ast.BoolOp, ast.BinOp, ast.UnaryOp, ast.IfExp, ast.Dict, ast.Compare, ast.Call, ast.Constant, ast.Attribute, ast.Subscript, ast.Starred, ast.Name,
    ast.List, ast.Tuple, ast.Slice, ast.expr_context, ast.boolop, ast.operator, ast.unaryop, ast.cmpop, ast.arguments, ast.arg, ast.keyword, ast.withitem,
)  # fmt: skip
_PRINTABLE = bytes(range(32, 127)) + b"\n"
_PROPERTIES = ATEN | PRIM | {"__init__", "__new__"}


@dataclass(frozen=True, slots=True)
class Found:
    """What speaks against one file of code."""

    file: str
    why: str
    weight: Weight


@dataclass(slots=True)
class _Code:
    """What all files declare together."""

    names: set[str] = field(default_factory=set)
    """Attributes, methods, fields and members that its classes have."""
    paths: set[str] = field(default_factory=set)
    """Classes and functions, `__torch__.a.b.C`."""


def judge(files: Mapping[str, bytes], made: Iterable[str] = ()) -> Iterator[Found]:
    """What the code in `code/`, by path, does beyond computing: the first thing of each file. `made` are the classes that pickles beside it make."""
    trees: dict[str, ast.Module] = {}
    code = _Code()
    for file, source in files.items():
        tree, why = _parsed(source)
        if tree is None:
            yield Found(file, why, "refused")
            continue
        trees[file] = tree
        _declare(tree, file, code)
    for file, tree in trees.items():
        found = next(_Reader(code).read(tree), None)
        if found is not None:
            yield Found(file, *found)
    for path in sorted(set(made) - code.paths - NATIVE):
        yield Found("data.pkl", f"it makes a `{_short(path)}`, which is no class of the code's own, and none of packed weights", "review")


def _parsed(source: bytes) -> tuple[ast.Module | None, str]:
    """Rule 1."""
    if len(source) > MAX_SOURCE:
        return None, f"it is over {MAX_SOURCE} bytes"
    if source.translate(None, _PRINTABLE):
        return None, "it holds characters that torch's writer never writes, where parsers differ"
    try:
        tree = ast.parse(source)
        if _prefixed(source):
            return None, "it holds a string that torch's writer never writes, where parsers differ"
    except (SyntaxError, ValueError, RecursionError, MemoryError, tokenize.TokenError):
        return None, "it is no TorchScript that could be read"
    return tree, ""


def _prefixed(source: bytes) -> bool:
    """Whether a string has a prefix, or three quotes: only then do parsers differ on where it ends."""
    if b'"""' in source or b"'''" in source:
        return True
    if b"\\" not in source:
        return False
    tokens = tokenize.tokenize(io.BytesIO(source).readline)
    return any(token.type == tokenize.STRING and token.string[0] not in "'\"" for token in tokens)


def _declare(tree: ast.Module, file: str, code: _Code) -> None:
    module = file.removeprefix("code/").removesuffix(".py").replace("/", ".")
    for node in tree.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            code.paths.add(f"{module}.{node.name}")
        for inner in node.body if isinstance(node, ast.ClassDef) else ():
            if isinstance(inner, ast.FunctionDef):
                code.names.add(inner.name)
            elif isinstance(inner, ast.AnnAssign) and isinstance(inner.target, ast.Name):
                code.names.add(inner.target.id)
            elif isinstance(inner, ast.Assign):
                code.names |= {name for target in inner.targets for name in _declared(target)}


def _declared(target: ast.expr) -> Iterator[str]:
    """Of `RED = 1` in an enumeration, and of `__annotations__["0"] = ...`."""
    if isinstance(target, ast.Name):
        yield target.id
    elif isinstance(target, ast.Subscript) and isinstance(target.slice, ast.Constant) and isinstance(target.slice.value, str):
        yield target.slice.value


class _Reader:
    """Of one file."""

    def __init__(self, code: _Code) -> None:
        self._code = code
        self._inner: set[int] = set()
        """Nodes that a chain above them accounted for."""

    def read(self, tree: ast.Module) -> Iterator[tuple[str, Weight]]:
        """What speaks against it; what is refused comes first."""
        unknown: list[tuple[str, Weight]] = []
        self._local = {name for node in ast.walk(tree) for name in _binds(node)}  # what they stand for was itself an expression, and read
        for node in ast.walk(tree):  # breadth first: a chain comes before what it is made of
            found = self._node(node)
            if found is not None:
                why, weight = found
                told: tuple[str, Weight] = (f"line {getattr(node, 'lineno', 1)}: {why}", weight)
                if weight == "refused":
                    yield told
                else:
                    unknown.append(told)
        yield from unknown[:1]

    def _node(self, node: ast.AST) -> tuple[str, Weight] | None:
        if isinstance(node, ast.Import | ast.ImportFrom | ast.Global | ast.Nonlocal):
            return "TorchScript has no imports", "refused"
        if not isinstance(node, _STATEMENTS + _EXPRESSIONS):
            return f"it holds a `{type(node).__name__}`, which torch's writer never writes", "review"
        if _binds(node) & ROOTS:
            return "it binds a name that stands for torch itself", "refused"  # 4
        if isinstance(node, ast.Name):
            alone = node.id in ROOTS and id(node) not in self._inner
            return (f"it hands on `{node.id}` as a value", "refused") if alone else None
        if isinstance(node, ast.Attribute):
            return None if id(node) in self._inner else self._chain(node)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            return self._call(node, node.func.id)
        return None

    def _call(self, node: ast.Call, name: str) -> tuple[str, Weight] | None:
        if name == "getattr":
            key = node.args[1] if len(node.args) == 2 else None
            if not isinstance(key, ast.Constant) or not isinstance(key.value, str):
                return "it takes an attribute by a name that is worked out", "refused"
            return self._attribute(key.value)
        return None if name in BUILTINS or name in self._local else (f"it calls `{_short(name)}`, which is not known", "review")

    def _chain(self, node: ast.Attribute) -> tuple[str, Weight] | None:
        """An attribute of an attribute of ... a name, or of a value."""
        path = [node.attr]
        inner: ast.expr = node.value
        while isinstance(inner, ast.Attribute):
            self._inner.add(id(inner))
            path.append(inner.attr)
            inner = inner.value
        path.reverse()
        root = inner.id if isinstance(inner, ast.Name) else ""
        if root not in ROOTS:
            return next((found for found in map(self._attribute, path) if found is not None), None)
        self._inner.add(id(inner))
        if root == "torch":
            return _operator("aten", path[1:] if path[0] == "autograd" and len(path) > 1 else path)
        if root == "ops":
            return _operator(path[0], path[1:])
        if root == "CONSTANTS":
            return next((found for found in map(self._attribute, path[1:]) if found is not None), None)
        return self._own(path)

    def _own(self, path: list[str]) -> tuple[str, Weight] | None:
        """`__torch__.a.b.C`, perhaps with a member of it."""
        for length in range(len(path), 0, -1):
            full = ".".join(("__torch__", *path[:length]))
            if full in self._code.paths or full in NATIVE:
                return next((found for found in map(self._attribute, path[length:]) if found is not None), None)
        return f"it refers to `__torch__.{_short('.'.join(path))}`, which its code does not define", "review"

    def _attribute(self, name: str) -> tuple[str, Weight] | None:
        """Rules 2 and 3."""
        own = name in self._code.names
        if name in ACTING:
            return f"it calls `{name}`, which touches files or other processes", "review" if own else "refused"
        if name in CLOSED:
            return f"it calls `{name}`, an operator that is for torch's own use", "review"
        return None if own or name in _PROPERTIES else (f"it takes `{_short(name)}`, which no class of its code declares", "review")


def _operator(library: str, path: list[str]) -> tuple[str, Weight] | None:
    """Rule 2."""
    whole = ".".join((library, *path))
    if any(part in ACTING for part in path):
        return f"it calls `{_short(whole)}`, which touches files or other processes", "refused"
    if library in OWN_LIBRARIES:
        return f"it calls the library `{library}`, which a person must know", "review"
    if library not in LIBRARIES:
        return f"it calls the library `{_short(library)}`, which is not torch's own", "refused"
    known = len(path) == 1 and path[0] in LIBRARIES[library]
    return None if known else (f"it calls `{_short(whole)}`, which is not known to only compute", "review")


def _binds(node: ast.AST) -> set[str]:
    """Names that a node gives a meaning to."""
    if isinstance(node, ast.Name):
        return set() if isinstance(node.ctx, ast.Load) else {node.id}
    if isinstance(node, ast.arg):
        return {node.arg}
    return {node.name} if isinstance(node, ast.FunctionDef | ast.ClassDef) else set()


def _short(text: str) -> str:
    return text[:80].replace("`", "'")
