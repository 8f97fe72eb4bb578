"""A skops schema, node by node: what loading it would import, construct and call, judged as a pickle's names are.

Rules (skops `io/_audit.py`, `_general.py`, `_numpy.py`, `_scipy.py`, `_sklearn.py`; protocols 0 to 2)
1. Every node has a loader that is listed here, and only the keys that its loader reads. A node may act in its loader's way alone.
2. Names are judged by the pickle machine's judge: an object's class must be constructible and its state must fit, what is called must be callable with such arguments,
   a function or class that is held must be inert. skops' own list of trusted types is not asked.
3. A method of an object, an operator that calls, and a class as the type of a dictionary's keys other than a plain one, are refused: these are how its audit
   was passed by (CVE-2025-54412, CVE-2025-54413).
4. Nodes that share an `__id__` are one object to skops, which takes the first: they must be of the same loader and class.
5. Files in the archive belong to nodes, each one to at least one; arrays hold no objects (skops loads them with `allow_pickle=False`). Rules over
   compiled classes look into arrays: a tree whose nodes point outside it reads memory that is not its own.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from msgspec.structs import replace

from vouchgate.scanning.knowledge.entries import Knowledge
from vouchgate.scanning.npy_headers import MAGIC, header_of
from vouchgate.scanning.pickles.dialects import PLAIN
from vouchgate.scanning.pickles.fitting import is_plain
from vouchgate.scanning.pickles.judging import Judge
from vouchgate.scanning.pickles.taking import SCALAR_MAKERS, is_array
from vouchgate.scanning.pickles.values import Array, Dict, List, Made, Name, Set, Tuple, Value
from vouchgate.scanning.scope import shown
from vouchgate.scanning.skops_names import BIT_GENERATORS, KEY_TYPES, LOSSES, PLAIN_CLASSES, is_scalar_type, is_ufunc
from vouchgate.scanning.strict_json import strict_text
from vouchgate.scanning.verdict import Reason, Refuse

RULE = "skops"
REMEDY = "save the model again with `skops.io.dump`, made of a library's own estimators and plain values, or export it as ONNX"
MAX_NODES = 2_000_000
"""Nodes of one schema; a forest of 1,000 trees has about 30,000."""
PROTOCOLS = (0, 1, 2)
PICKLE_PROTOCOL = 5
"""Names are what they say: nothing is mapped from Python 2."""
_COMMON = frozenset(("__class__", "__module__", "__loader__", "__id__", "is_json"))


class Nodes:
    """Reads one schema. `files` collects what nodes refer to: name -> `array`, `sparse` or `bytes`. `placed` says where in `view` files lie."""

    def __init__(self, knowledge: Knowledge, protocol: int, view: memoryview, placed: Mapping[str, tuple[int, int]]) -> None:
        self.files: dict[str, str] = {}
        self.nodes = 0
        self._view, self._placed = view, placed
        self._judge = Judge(view, knowledge, PLAIN)
        self._protocol = protocol
        self._memo: dict[Any, tuple[tuple[str, str, str], Value]] = {}
        self._places: list[str] = []

    def read(self, root: dict[str, Any]) -> tuple[Reason, ...]:
        """What speaks against the object. Raises `Refuse` for what is no schema, or acts in a way that is never let in."""
        self._node(root, "")
        self._judge.settle()
        return tuple(self._told(reason) for reason in self._judge.reasons)

    def _told(self, reason: Reason) -> Reason:
        place = reason.where.rpartition(" ")[2]
        where = self._places[int(place)] if place.isdigit() and int(place) < len(self._places) else ""
        return replace(reason, rule=f"{RULE}:{reason.rule.partition(':')[2]}", where=f"schema.json, {where or 'the root'}")

    # Nodes

    def _node(self, node: Any, path: str) -> Value:
        """The value that a node stands for."""
        self.nodes += 1
        if self.nodes > MAX_NODES:
            self._refuse("too-many-nodes", path, f"it has more than {MAX_NODES} nodes")
        if not isinstance(node, dict) or not isinstance(node.get("__loader__"), str):
            self._refuse("node", path, "something that is no node stands where one must")
        loader = node["__loader__"]
        if loader == "CachedNode":
            return self._cached(node, path)
        if loader not in _LOADERS:
            self._refuse("loader", path, f"its loader `{shown(loader)}` is none that this reader knows")
        read, keys = _LOADERS[loader]
        module, name = node.get("__module__"), node.get("__class__")
        if not isinstance(module, str) or not isinstance(name, str):
            self._refuse("node", path, "a node's class or module is no text")
        if not node.keys() <= _COMMON | keys or not keys <= node.keys() | _OPTIONAL:
            self._refuse("node", path, f"a node of `{loader}` does not have exactly the fields that its loader reads")
        return self._remembered(node, (loader, module, name), path, read)

    def _remembered(self, node: dict[str, Any], kind: tuple[str, str, str], path: str, read: Callable[..., Value]) -> Value:
        """Rule 4. The second of two nodes is judged too, and then the first taken."""
        number = node.get("__id__")
        if number is not None and type(number) is not int:
            self._refuse("id", path, "a node's `__id__` is no number")
        before = self._memo.get(number) if number else None
        if before is not None and (before[0] != kind or before[1] is _UNREAD):
            self._refuse(
                "id",
                path,
                "two nodes of different kinds share one `__id__`, or an object is a part of itself: skops takes the first for both",
            )
        if number and before is None:
            self._memo[number] = (kind, _UNREAD)
        value = read(self, node, path)
        if number and before is None:
            self._memo[number] = (kind, value)
        return before[1] if before is not None else value

    def _cached(self, node: dict[str, Any], path: str) -> Value:
        found = self._memo.get(node.get("__id__")) if type(node.get("__id__")) is int else None
        if found is None or found[1] is _UNREAD:
            self._refuse("id", path, "a node refers to an object that was not read before it")
        return found[1]

    def _place(self, path: str) -> int:
        self._places.append(path)
        return len(self._places) - 1

    def _name(self, module: str, name: str, path: str) -> Name:
        return self._judge.name(module, name, self._place(path), PICKLE_PROTOCOL)

    def _refuse(self, rule: str, path: str, why: str) -> NoReturn:
        raise Refuse(f"{RULE}:{rule}", f"schema.json, {shown(path) or 'the root'}", why, REMEDY)

    def _must_be(self, node: dict[str, Any], path: str, *names: str) -> None:
        full = f"{node['__module__']}.{node['__class__']}"
        if full not in names:
            self._refuse("class", path, f"its loader would build `{shown(full)}`, where only {' or '.join(names)} may stand")

    # Containers

    def _dict(self, node: dict[str, Any], path: str) -> Value:
        self._must_be(node, path, "builtins.dict", "collections.OrderedDict")
        content = self._object(node["content"], path)
        types = self._list_of(node["key_types"], _below(path, "key_types"))
        if len(types) != len(content):
            self._refuse("key-types", path, "a dictionary does not have one type for each of its keys")
        return Dict(
            [(_key(key, kind), self._node(value, _below(path, key))) for (key, value), kind in zip(content.items(), types, strict=True)]
        )

    def _list_of(self, node: Any, path: str) -> list[str]:
        """Full names of the key types: they are called with the key's text (rule 3)."""
        value = self._node(node, path)
        found = []
        for item in value.items if isinstance(value, List) else [None]:
            full = item.full if isinstance(item, _Type) else ""
            if full not in KEY_TYPES and not is_scalar_type(full):
                self._refuse(
                    "key-types",
                    path,
                    f"a dictionary's keys are made by `{shown(full) or 'something that is no type'}`, which would be called",
                )
            found.append(full)
        return found

    def _default_dict(self, node: dict[str, Any], path: str) -> Value:
        self._must_be(node, path, "collections.defaultdict")
        content = self._object(node["content"], path, "main", "default_factory")
        factory = self._node(content["default_factory"], _below(path, "default_factory"))
        if factory is not None and not (isinstance(factory, _Type) and factory.full in PLAIN_CLASSES):
            self._refuse(
                "default-factory", path, "a dictionary's default is made by something that is no plain type, which would be called"
            )
        return self._node(content["main"], _below(path, "main"))

    def _sequence(self, node: dict[str, Any], path: str) -> list[Value]:
        if not isinstance(node["content"], list):
            self._refuse("node", path, "the content of a sequence is no list")
        return [self._node(item, _below(path, str(place))) for place, item in enumerate(node["content"])]

    def _list(self, node: dict[str, Any], path: str) -> Value:
        self._must_be(node, path, "builtins.list")
        return List(self._sequence(node, path))

    def _set(self, node: dict[str, Any], path: str) -> Value:
        self._must_be(node, path, "builtins.set", "builtins.frozenset")
        return Set(self._sequence(node, path))

    def _tuple(self, node: dict[str, Any], path: str) -> Value:
        items = Tuple(tuple(self._sequence(node, path)))
        if f"{node['__module__']}.{node['__class__']}" == "builtins.tuple":
            return items
        kind = self._name(node["__module__"], node["__class__"], path)  # a named tuple: its class is called with the items
        return self._judge.construct("newobj", kind, items, None, self._place(path))

    def _json(self, node: dict[str, Any], path: str) -> Value:
        if not isinstance(node["content"], str):
            self._refuse("node", path, "the content of a JSON node is no text")
        value = (
            strict_text(node["content"], RULE, f"schema.json, {shown(path)}")
            if node["content"][:1] in ("[", "{")
            else _scalar(node["content"])
        )
        if value is _UNREAD:
            self._refuse("node", path, "the content of a JSON node is no JSON")
        return value if not isinstance(value, dict | list) else _values(value)

    def _slice(self, node: dict[str, Any], path: str) -> Value:
        self._must_be(node, path, "builtins.slice")
        content = self._object(node["content"], path, "start", "stop", "step")
        if not all(value is None or type(value) is int for value in content.values()):
            self._refuse("node", path, "a slice's bounds are no whole numbers")
        return Tuple(tuple(content.values()))

    def _bytes(self, node: dict[str, Any], path: str) -> Value:
        self._must_be(node, path, "builtins.bytes", "builtins.bytearray")
        self._file(node, path, "bytes")
        return b""

    # Names

    def _type(self, node: dict[str, Any], path: str) -> Value:
        return self._held(node["__module__"], node["__class__"], path)

    def _function(self, node: dict[str, Any], path: str) -> Value:
        module, name = node["__module__"], node["__class__"]
        if self._protocol == 0:
            content = self._object(node.get("content"), path, "module_path", "function")
            module, name = content["module_path"], content["function"]
            if not isinstance(module, str) or not isinstance(name, str):
                self._refuse("node", path, "a function's name is no text")
        return self._held(module, name, path)

    def _held(self, module: str, name: str, path: str) -> Value:
        full = f"{module}.{name}"
        if full in PLAIN_CLASSES or full in KEY_TYPES or is_scalar_type(full) or is_ufunc(full):
            return _Type(full)
        return self._name(module, name, path)  # held, never used: it must be inert

    def _partial(self, node: dict[str, Any], path: str) -> Value:
        self._must_be(node, path, "functools.partial")
        content = self._object(node["content"], path, "func", "args", "kwds", "namespace")
        parts = {key: self._node(value, _below(path, key)) for key, value in content.items()}
        if not isinstance(parts["func"], _Type | Name):
            self._refuse("partial", path, "a partial call is of something that is no function by name")
        if parts["namespace"] is not None and not (isinstance(parts["namespace"], Dict) and not parts["namespace"].pairs):
            self._refuse("partial", path, "a partial call has attributes of its own")
        return Tuple((parts["func"], parts["args"], parts["kwds"]))

    def _method(self, node: dict[str, Any], path: str) -> Value:
        full = f"{node['__module__']}.{node['__class__']}"
        self._refuse("method", path, f"it holds a method of `{shown(full)}`, and looking one up may run code (CVE-2025-54413)")

    def _operator(self, node: dict[str, Any], path: str) -> Value:
        self._must_be(node, path, "operator.itemgetter", "operator.attrgetter")
        made = self._node(node["attrs"], _below(path, "attrs"))
        items = made.items if isinstance(made, Tuple) else ()
        plain = bool(items) and all(isinstance(item, str | int) for item in items)
        if not plain or (node["__class__"] == "attrgetter" and any(_dunder(item) for item in items)):
            self._refuse("operator", path, "what it looks up is no plain name or number (CVE-2025-54412)")
        return made

    # Objects

    def _object_node(self, node: dict[str, Any], path: str) -> Value:
        kind = self._name(node["__module__"], node["__class__"], path)
        made = self._judge.construct("newobj", kind, Tuple(()), None, self._place(path))
        if node.get("content") is not None:
            state = self._node(node["content"], path)
            if state is not None:
                self._judge.build(made, state, self._place(path))
        return _made(METRICS, "newObj") if node["__module__"] == METRICS else made

    def _called(self, node: dict[str, Any], path: str) -> Value:
        args = self._node(node["content"], path)
        kind = self._name(node["__module__"], node["__class__"], path)
        return self._judge.call("reduce", kind, args if isinstance(args, Tuple) else Tuple((args,)), self._place(path))

    def _tree(self, node: dict[str, Any], path: str) -> Value:
        """`Tree(n_features, n_classes, n_outputs)`, then its state (scikit-learn, `tree/_tree.pyx`)."""
        self._must_be(node, path, "sklearn.tree._tree.Tree")
        args, state = self._reduced(node, path)
        made = self._judge.call("reduce", self._name("sklearn.tree._tree", "Tree", path), Tuple(args), self._place(path))
        if state is not None:
            self._judge.build(made, state, self._place(path))
        return made

    def _loss(self, node: dict[str, Any], path: str) -> Value:
        """A loss class of scikit-learn's own is called with numbers."""
        full = f"{node['__module__']}.{node['__class__']}"
        if full not in LOSSES:
            self._refuse("loss", path, f"loading it calls `{shown(full)}`, which is no loss of scikit-learn's")
        args, state = self._reduced(node, path)
        if not all(isinstance(item, int | float) for item in args) or not (state is None or (is_plain(state) and not _parts(state))):
            self._refuse("loss", path, "a loss takes more than numbers")
        return Tuple(args)

    def _reduced(self, node: dict[str, Any], path: str) -> tuple[tuple[Value, ...], Value]:
        reduce = self._object(node["__reduce__"], path, "args")
        args = self._node(reduce["args"], _below(path, "args"))
        state = self._node(node["content"], _below(path, "content"))
        if not isinstance(args, Tuple):
            self._refuse("node", path, "arguments are no tuple")
        return args.items, state

    # Arrays

    def _array(self, node: dict[str, Any], path: str) -> Value:
        full = f"{node['__module__']}.{node['__class__']}"
        if full != "numpy.ndarray" and not is_scalar_type(full):
            self._refuse("class", path, f"an array would be handed to `{shown(full)}`, which is called with it")
        if node["type"] == "numpy" and node.keys().isdisjoint(("content", "shape")):
            self._file(node, path, "array")
            return self._stored(node["file"]) if full == "numpy.ndarray" else _made("numpy._core.multiarray", "scalar")
        if node["type"] != "json" or "file" in node or not {"content", "shape"} <= node.keys():
            self._refuse("array", path, "an array is neither a file nor a list of nodes")
        items = self._sequence(node, path)
        shape = self._node(node["shape"], _below(path, "shape"))
        if not isinstance(shape, Tuple) or not all(type(size) is int for size in shape.items):
            self._refuse("array", path, "an array's shape is no tuple of numbers")
        return List(items)

    def _stored(self, name: str) -> Value:
        """An array in a file: where its numbers lie, for rules that look at them. The file itself is judged on its own."""
        begin, length = self._placed.get(name, (0, 0))
        whole = self._view[begin : begin + length]
        wrapper = _made("numpy._core.multiarray", "_reconstruct")
        if bytes(whole[: len(MAGIC)]) != MAGIC:
            return wrapper
        header = header_of(whole)
        if header.dtype.objects:
            return wrapper
        return Array(wrapper, header.dtype, header.shape, header.fortran, begin + header.end, length - header.end)

    def _masked(self, node: dict[str, Any], path: str) -> Value:
        self._must_be(node, path, "numpy.ma.MaskedArray", "numpy.ma.core.MaskedArray")
        content = self._object(node["content"], path, "data", "mask")
        parts = [self._node(value, _below(path, key)) for key, value in content.items()]
        if not all(is_array(part) or isinstance(part, List | bool) for part in parts):
            self._refuse("array", path, "a masked array is not made of two arrays")
        return _made("numpy.ma.core", "_mareconstruct")

    def _dtype(self, node: dict[str, Any], path: str) -> Value:
        self._must_be(node, path, "numpy.dtype")
        value = self._node(node["content"], path)
        if not (is_array(value) or isinstance(value, List)):
            self._refuse("array", path, "a dtype is not taken from an array")
        return _Type("numpy.dtype")

    def _sparse(self, node: dict[str, Any], path: str) -> Value:
        if not node["__module__"].startswith("scipy.sparse.") or node["type"] != "scipy":
            self._refuse("class", path, "a sparse matrix is none of scipy's")
        self._file(node, path, "sparse")
        return _Type("scipy.sparse")

    def _random_state(self, node: dict[str, Any], path: str) -> Value:
        self._must_be(node, path, "numpy.random.mtrand.RandomState", "numpy.random.RandomState")
        return self._generator_state(self._node(node["content"], path), path)

    def _generator(self, node: dict[str, Any], path: str) -> Value:
        self._must_be(node, path, "numpy.random._generator.Generator", "numpy.random.Generator")
        content = self._object(node["content"], path)
        if content.keys() not in ({"bit_generator", "seed_seq"}, {"bit_generator"}):
            self._refuse("node", path, "a generator has more than a state and a seed")
        if "seed_seq" in content:
            seed = self._node(content["seed_seq"], _below(path, "seed_seq"))
            if not isinstance(seed, Dict) or not all(key in _SEED and _numbers(value) for key, value in seed.pairs):
                self._refuse("generator", path, "a generator's seed is more than numbers")
        return self._generator_state(self._node(content["bit_generator"], _below(path, "bit_generator")), path)

    def _generator_state(self, state: Value, path: str) -> Value:
        """numpy looks the generator up by the name in its state, and calls it."""
        pairs = dict(state.pairs) if isinstance(state, Dict) else {}
        if pairs.get("bit_generator") not in BIT_GENERATORS or not all(_numbers(value) for value in pairs.values()):
            self._refuse("generator", path, "a random generator is none of numpy's, or its state is more than numbers")
        return Tuple(())

    # Parts

    def _file(self, node: dict[str, Any], path: str, kind: str) -> None:
        name = node.get("file")
        if not isinstance(name, str) or self.files.setdefault(name, kind) != kind:
            self._refuse("file", path, "a node names no file, or one that another reads as something else")

    def _object(self, value: Any, path: str, *keys: str) -> dict[str, Any]:
        """A JSON object; with `keys`, of exactly these."""
        if not isinstance(value, dict) or (keys and value.keys() != set(keys)):
            self._refuse("node", path, "a node's content does not have the fields that its loader reads")
        return value


class _Type:
    """A plain type or function, held by name."""

    def __init__(self, full: str) -> None:
        self.full = full


def _made(module: str, name: str) -> Made:
    """Numbers in a file of their own, as the rules over arguments know an array or a scalar that a pickle makes."""
    return Made("reduce", Name(module, name, None))


_UNREAD: Any = object()
"""An object whose node is still being read."""
METRICS = "sklearn.metrics._dist_metrics"
"""Its objects are known to other rules by what pickles make them with."""
_SEED = frozenset(("entropy", "spawn_key", "pool_size", "n_children_spawned"))
_OPTIONAL = frozenset(("content", "shape", "file"))
"""Fields that a loader does without in some nodes."""
_LOADERS: dict[str, tuple[Callable[..., Value], frozenset[str]]] = {
    "DictNode": (Nodes._dict, frozenset(("content", "key_types"))),
    "DefaultDictNode": (Nodes._default_dict, frozenset(("content",))),
    "ListNode": (Nodes._list, frozenset(("content",))),
    "SetNode": (Nodes._set, frozenset(("content",))),
    "TupleNode": (Nodes._tuple, frozenset(("content",))),
    "JsonNode": (Nodes._json, frozenset(("content",))),
    "SliceNode": (Nodes._slice, frozenset(("content",))),
    "BytesNode": (Nodes._bytes, frozenset(("file",))),
    "BytearrayNode": (Nodes._bytes, frozenset(("file",))),
    "TypeNode": (Nodes._type, frozenset()),
    "FunctionNode": (Nodes._function, frozenset(("content",))),
    "PartialNode": (Nodes._partial, frozenset(("content",))),
    "MethodNode": (Nodes._method, frozenset(("content",))),
    "OperatorFuncNode": (Nodes._operator, frozenset(("attrs",))),
    "ObjectNode": (Nodes._object_node, frozenset(("content",))),
    "ConstructorFromReduceNode": (Nodes._called, frozenset(("content",))),
    "TreeNode": (Nodes._tree, frozenset(("__reduce__", "content"))),
    "LossNode": (Nodes._loss, frozenset(("__reduce__", "content"))),
    "NdArrayNode": (Nodes._array, frozenset(("type", "file", "content", "shape"))),
    "MaskedArrayNode": (Nodes._masked, frozenset(("content",))),
    "DTypeNode": (Nodes._dtype, frozenset(("content",))),
    "SparseMatrixNode": (Nodes._sparse, frozenset(("type", "file"))),
    "RandomStateNode": (Nodes._random_state, frozenset(("content",))),
    "RandomGeneratorNode": (Nodes._generator, frozenset(("content",))),
}


MAX_PATH = 160
"""Characters of a path to a node that are kept."""


def _below(path: str, key: str) -> str:
    """The path to a part of a node; bounded, for it is written for every node."""
    return path if len(path) >= MAX_PATH else f"{path}.{key[:MAX_PATH]}".lstrip(".")


def _scalar(text: str) -> Value:
    """A number, a text, a boolean or null, as `json.loads` gives it."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return _UNREAD


def _values(value: Any) -> Value:
    """Plain JSON as the judge's values."""
    if isinstance(value, dict):
        return Dict([(key, _values(item)) for key, item in value.items()])
    return List([_values(item) for item in value]) if isinstance(value, list) else value


def _key(text: str, kind: str) -> Value:
    """A dictionary's key: its text, made by its type."""
    return int(text) if kind == "builtins.int" and text.lstrip("-").isdigit() and len(text) < 20 else text


def _parts(value: Value) -> int:
    return len(value.pairs) if isinstance(value, Dict) else len(getattr(value, "items", ()))


def _dunder(name: Any) -> bool:
    return not isinstance(name, str) or any(part.startswith("_") for part in name.split("."))


def _numbers(value: Value) -> bool:
    """Numbers, names of generators, arrays, and dictionaries and lists of them."""
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, Dict):
            waiting += [item for _, item in one.pairs]
        elif isinstance(one, List | Tuple):
            waiting += one.items
        elif not (
            one is None or isinstance(one, int | float | str) or is_array(one) or (isinstance(one, Made) and one.calls(*SCALAR_MAKERS))
        ):
            return False
    return True
