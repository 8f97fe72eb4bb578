"""PyTorch's files, written opcode by opcode: each state dict is clean, and each thing that does not add up is refused by its rule."""

from __future__ import annotations

import struct
import zipfile

import pytest
from pickle_making import (
    called,
    made,
    name,
    number,
    program,
    several,
    storage,
    tensor,
    text,
    torch_legacy,
    torch_zip,
    zipped,
)  # fmt: skip

from vouchgate.scanning.scan import scan
from vouchgate.scanning.torchscript_code import ACTING, judge
from vouchgate.scanning.torchscript_operators import ATEN, CLOSED, PRIM, QUANTIZED, TORCHVISION

SYSTEM = called(name("posix", "system"), text("true"))


def state_dict(*pairs: bytes) -> bytes:
    """An OrderedDict with torch's attribute."""
    metadata = b"}" + text("_metadata") + called(name("collections", "OrderedDict")) + b"s" + b"b"
    return called(name("collections", "OrderedDict")) + b"(" + b"".join(pairs) + b"u" + metadata


GOOD = program(state_dict(text("weight"), tensor(storage()), text("tied"), tensor(storage())))
UNTYPED = several(text("storage"), name("torch.storage", "UntypedStorage"), text("0"), text("cpu"), number(16)) + b"Q"
FLOAT8 = called(
    name("torch._utils", "_rebuild_tensor_v3"), UNTYPED, number(0), several(number(16)), several(number(1)), b"\x89",
    called(name("collections", "OrderedDict")), name("torch", "float8_e4m3fn"),
)  # fmt: skip
PARAMETER = called(name("torch._utils", "_rebuild_parameter"), tensor(storage()), b"\x88", called(name("collections", "OrderedDict")))


@pytest.mark.parametrize("pickled", [GOOD, program(FLOAT8), program(PARAMETER), program(storage()), program(b"}")])
def test_state_dicts_are_clean(pickled: bytes) -> None:
    held = {} if pickled == program(b"}") else {"0": bytes(16)}
    content = torch_zip(pickled, held)
    verdict = scan(content)
    assert (verdict.outcome, verdict.format, verdict.reasons) == ("clean", "torch-zip", ())
    assert verdict.covered == len(content)


def test_names_that_only_tighten() -> None:
    assert scan(torch_zip(GOOD), name="model.safetensors").outcome == "clean"


ZIPS: dict[str, tuple[bytes, str]] = {
    "a call": (torch_zip(program(SYSTEM), {}), "pickle:unknown-call"),
    "a call beside a state dict": (torch_zip(program(SYSTEM + b"0" + GOOD[2:-1])), "pickle:unknown-call"),
    "a second pickle": (torch_zip(GOOD + program(SYSTEM)), "pickle:trailing-bytes"),
    "a storage that is missing": (torch_zip(GOOD, {}), "torch-zip:storage-missing"),
    "a storage too short": (torch_zip(GOOD, {"0": bytes(15)}), "torch-zip:storage-size"),
    "a storage too long": (torch_zip(GOOD, {"0": bytes(17)}), "torch-zip:storage-size"),
    "a storage that nothing refers to": (torch_zip(GOOD, {"0": bytes(16), "1": b"payload"}), "torch-zip:unreferenced"),
    "a member that nothing refers to": (torch_zip(GOOD, **{"run.sh": b"#!/bin/sh"}), "torch-zip:unreferenced"),
    "a member outside of the folder": (zipped({"m/data.pkl": GOOD, "m/data/0": bytes(16), "x": b"y"}), "torch-zip:outside"),
    "a byte order that is none": (zipped({"m/data.pkl": GOOD, "m/byteorder": b"pdp", "m/data/0": bytes(16)}), "torch-zip:byteorder"),
    "a version that is no text": (torch_zip(GOOD, **{".format_version": b"\x7fELF"}), "torch-zip:text"),
    "one key with two sizes": (
        torch_zip(program(several(tensor(storage()), tensor(storage(elements=8))))), "pickle:torch-storage"),
    "a window beyond its storage": (torch_zip(program(tensor(storage(), size=(3, 2)))), "pickle:arguments"),
    "a window that begins too late": (torch_zip(program(tensor(storage(), offset=1))), "pickle:arguments"),
    "strides beyond the storage": (torch_zip(program(tensor(storage(), stride=(1000, 1)))), "pickle:arguments"),
    "a negative stride": (torch_zip(program(tensor(storage(), stride=(-2, 1)))), "pickle:arguments"),
    "hooks": (
        torch_zip(program(tensor(storage(), with_hooks=called(name("collections", "OrderedDict")) + number(1) + name("builtins", "len") + b"s"))),
        "pickle:arguments",
    ),
    "hooks that come later": (
        torch_zip(program(
            called(name("collections", "OrderedDict")) + b"q\x070" + tensor(storage(), with_hooks=b"h\x07") + b"h\x07" + number(1)
            + name("builtins", "len") + b"s0")),
        "pickle:late-items",
    ),
    "a storage of another class": (torch_zip(program(storage(kind="nn"))), "pickle:persistent-id"),
    "a key that leaves the folder": (torch_zip(program(tensor(storage(key="../0")))), "pickle:persistent-id"),
    "a location that is no device": (torch_zip(program(tensor(storage(location="http://x")))), "pickle:persistent-id"),
    "legacy's id for a class": (
        torch_zip(program(several(text("module"), name("posix", "system"), text("f"), text("s")) + b"Q"), {}), "pickle:persistent-id"),
    "an attribute of a tensor that is its own": (
        torch_zip(program(called(
            name("torch._utils", "_rebuild_parameter_with_state"), tensor(storage()), b"\x88", called(name("collections", "OrderedDict")),
            b"}" + text("grad_fn") + b"Ns"))),
        "pickle:arguments",
    ),
    "a function called through a rebuild": (
        torch_zip(program(called(
            name("torch._tensor", "_rebuild_from_type_v2"), name("posix", "system"), name("torch", "Tensor"), several(text("true")), b"}")), {}),
        "pickle:unknown-name",
    ),
    "a graph module, whose code runs while loading": (
        torch_zip(program(called(name("torch.fx.graph_module", "reduce_graph_module"), b"}", text("import os"))), {}), "pickle:unknown-call"),
}  # fmt: skip


@pytest.mark.parametrize("what", ZIPS)
def test_each_is_refused_by_its_rule(what: str) -> None:
    content, rule = ZIPS[what]
    verdict = scan(content)
    assert (verdict.outcome, verdict.format) == ("refused", "torch-zip")
    assert rule in {reason.rule for reason in verdict.reasons}


def test_what_lies_in_a_torch_zip_is_checked_against_its_checksum() -> None:
    content = torch_zip(GOOD, {"0": b"\1" * 16})
    changed = content.replace(b"\1" * 16, b"\1" * 15 + b"\2")
    assert scan(changed).reasons[0].rule == "torch-zip:crc"
    assert scan(changed, deep=False).outcome == "incomplete"


def test_a_deflated_one_is_read_too() -> None:
    members = {"m/data.pkl": GOOD, "m/data/0": bytes(16)}
    assert scan(zipped(members, zipfile.ZIP_DEFLATED)).outcome == "clean"
    assert scan(zipped(members | {"m/data.pkl": program(SYSTEM)}, zipfile.ZIP_DEFLATED)).outcome == "refused"


LEGACY = program(state_dict(text("weight"), tensor(storage("94", 4, "FloatStorage", "cpu", b"N"))))


def test_legacy_files_are_clean() -> None:
    content = torch_legacy(LEGACY, {"94": bytes(16)})
    verdict = scan(content)
    assert (verdict.outcome, verdict.format, verdict.covered) == ("clean", "torch-legacy", len(content))


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        (torch_legacy(program(SYSTEM), {}), "unknown-call"),
        (torch_legacy(LEGACY, {"94": bytes(16)})[:-1], "torch-storage"),
        (torch_legacy(LEGACY, {"94": bytes(12)}), "torch-storage"),
        (torch_legacy(LEGACY, {"94": bytes(16), "95": bytes(4)}), "torch-keys"),
        (torch_legacy(LEGACY, {}), "torch-keys"),
        (torch_legacy(LEGACY, {"94": bytes(16)}) + b"x", "trailing-bytes"),
        (torch_legacy(LEGACY, {"94": bytes(16)}) + program(SYSTEM), "trailing-bytes"),
        (torch_legacy(LEGACY, {"94": bytes(16)}).replace(b"M\xe9\x03", b"M\xea\x03"), "torch-head"),
        (torch_legacy(LEGACY, {"94": bytes(16)}).replace(b"](X", b"](cposix\nsystem\n(tR0X"), "unknown-call"),
        (torch_legacy(program(several(text("module"), name("posix", "system"), b"N", b"N") + b"Q"), {}), "persistent-id"),
    ],
)
def test_legacy_files_that_do_not_add_up_are_refused(content: bytes, rule: str) -> None:
    verdict = scan(content)
    assert (verdict.outcome, verdict.format) == ("refused", "torch-legacy")
    assert f"pickle:{rule}" in {reason.rule for reason in verdict.reasons}


def script(code: str, pickled: bytes = b"", **more: bytes) -> bytes:
    whole = pickled or program(made(name("__torch__", "M")) + b"}" + text("weight") + tensor(storage()) + b"s" + b"b")
    return torch_zip(whole, **{"constants.pkl": program(b")"), "code/__torch__.py": code.encode(), **more})


CODE = (
    "class M(Module):\n  weight : Tensor\n  def forward(self: __torch__.M, x: Tensor) -> Tensor:\n    return torch.linear(x, self.weight)\n"
)


def judged(code: str) -> str:
    """The worst that is said of one file of code beside `CODE`; empty where it only computes."""
    found = list(judge({"code/__torch__.py": CODE.encode(), "code/__torch__/m.py": code.encode()}))
    return max((one.weight for one in found), default="", key=["", "review", "refused"].index)


def test_torchscript_that_only_computes_is_clean() -> None:
    verdict = scan(script(CODE))
    assert (verdict.outcome, verdict.format, verdict.reasons) == ("clean", "torchscript", ())


def test_inputs_of_a_trace_have_no_data() -> None:
    inputs = program(tensor(storage("1")))
    assert scan(script(CODE, **{"traced_inputs.pkl": inputs, "traced_inputs/1": b""})).outcome == "clean"
    assert scan(script(CODE, **{"traced_inputs.pkl": inputs, "traced_inputs/1": bytes(15)})).outcome == "refused"
    pickled = program(made(name("__torch__", "M")) + b"}" + text("weight") + tensor(storage()) + b"s" + b"b")
    assert scan(torch_zip(pickled, {"0": b""}, **{"constants.pkl": program(b")"), "code/__torch__.py": CODE.encode()})).outcome == "refused"


def test_bytecode_of_mobile_files_is_for_a_person() -> None:
    assert scan(script(CODE, **{"bytecode.pkl": program(number(7))})).outcome == "review"


def test_native_classes_in_the_pickle_are_known_or_for_a_person() -> None:
    for path, outcome in (("quantized", "clean"), ("inductor", "review")):
        kind = name(f"__torch__.torch.classes.{path}", "LinearPackedParamsBase" if path == "quantized" else "AOTIModelContainer")
        pickled = program(made(kind) + b"}" + text("weight") + tensor(storage()) + b"s" + b"b")
        assert scan(script(CODE, pickled)).outcome == outcome


@pytest.mark.parametrize(
    "content",
    [
        script(CODE, program(SYSTEM)),
        script(CODE.replace("torch.linear(x, self.weight)", "torch.save(x, 'f')")),
        script(CODE.replace("torch.linear", "ops.evil.run")),
        script("import os\n"),
        script("def f(:"),
        script(CODE, **{"extra/x.bin": b"\x7fELF" + bytes(64)}),
        script(CODE, **{"code/__torch__.py.debug_pkl": program(SYSTEM)}),
        script(CODE, **{"lib.so": b"\x7fELF"}),
    ],
)
def test_torchscript_that_reaches_outside_is_refused(content: bytes) -> None:
    verdict = scan(content)
    assert (verdict.outcome, verdict.format) == ("refused", "torchscript")


COMPUTING = [
    "x = ops.torchvision.nms(a, b)",
    "_1 = __torch__.M\ny = _1(x)",
    'y = (self.weight).forward(x, )\nz = getattr(self, "weight")',
    "def f(x: Tensor) -> Tensor:\n  def __forked_function():\n    return (x).forward(x, )\n  return torch.wait(fork(__forked_function))",
    'class C(Module):\n  __annotations__["0"] = __torch__.M\n  def g(self: __torch__.m.C, x: Tensor):\n    return getattr(self, "0")',
    "g = torch.autograd.grad([x], [y], CONSTANTS.c0)",
    "assert annotate(List[int], [1, -2])[0] == 1, 'it\\'s'",
    't = ops.prim.tolist(x)\nops.prim.RaiseException("empty")',
]
"""As torch's writer writes it."""
UNKNOWN = [
    "x = torch._unsafe_index(x, [y])",
    "x = x._unsafe_index([y])",
    "x = torch.not_an_operator(x)",
    "x = y.undeclared",
    "x = ops.prims.add(x, y)",
    "x = __torch__.torch.classes.inductor.Loader.__new__(__torch__.torch.classes.inductor.Loader)",
    "x = __torch__.elsewhere.C",
    "x = [a for a in b]",
    "x = lambda a: a",
    "x = vars(y)",
]
REACHING = [
    "x = torch.from_file('f', True, 10)",
    "x = 'f'.from_file(True, 10)",
    "x.save('f')",
    "getattr(x, 'save')('f')",
    "getattr(x, 'sa' + 've')('f')",
    "x = ops.aten.from_file('f')",
    "x = torch.autograd.from_file('f')",
    "x = ops.image.read_file(a)",
    "x = ops.evil.run(a)",
    "t = torch\nx = t.add(x, x)",
    "t = ops\nx = t.weight.forward(x)",
    "def f(ops: Tensor):\n  return x",
    "for torch in x:\n  pass",
    "def __torch__():\n  pass",
    "x = (torch).add(torch, x)",
    "import os",
    "x = 1 # \r",
    "x = '\u00e9'",
    "x = r'\\' + 'a'",
    'x = """a"""',
    "(" * 5_000,
    "x = " + "-" * 100_000 + "1",
]


@pytest.mark.parametrize("code", COMPUTING)
def test_code_that_only_computes(code: str) -> None:
    assert judged(code) == ""


@pytest.mark.parametrize("code", UNKNOWN)
def test_code_that_is_not_known_is_for_a_person(code: str) -> None:
    assert judged(code) == "review"


@pytest.mark.parametrize("code", REACHING)
def test_code_that_reaches_outside(code: str) -> None:
    assert judged(code) == "refused"


def test_a_method_of_the_archives_own_does_not_hide_an_operator() -> None:
    assert judged("class C(Module):\n  def save(self, f: str):\n    return f\nx.save('f')") == "review"
    assert judged("class C(Module):\n  def _unsafe_index(self):\n    return 1\nx._unsafe_index([y])") == "review"


def test_every_operator_is_listed_once() -> None:
    assert not ATEN & CLOSED
    assert not (ATEN | PRIM | QUANTIZED | TORCHVISION) & ACTING
    assert {"save", "from_file", "set_", "_unsafe_index"} <= CLOSED


def test_a_zip_of_a_pickle_is_scanned_inside() -> None:
    verdict = scan(zipped({"a/model.pkl": program(SYSTEM)}))
    assert (verdict.outcome, verdict.format) == ("refused", "zip")
    assert verdict.reasons[0].member == "a/model.pkl"


def test_a_number_of_elements_that_overflows_is_refused() -> None:
    content = torch_legacy(LEGACY, {"94": bytes(16)})
    changed = content[:-24] + struct.pack("<Q", 2**64 - 1) + content[-16:]
    assert scan(changed).outcome == "refused"


def storage_file(pickled: bytes = b"", keys: tuple[str, ...] = ("0",), count: int = 4, behind: bytes = b"") -> bytes:
    """A whole legacy file of one storage, as a plain pickle holds it."""
    whole = torch_legacy(pickled or program(storage("0", 4, "FloatStorage", "cpu", b"N")), {key: bytes(16) for key in keys})
    begin = len(whole) - 16 - 8
    return whole[:begin] + struct.pack("<q", count) + whole[begin + 8 :] + behind


def from_bytes(content: bytes) -> bytes:
    return called(name("torch.storage", "_load_from_bytes"), b"B" + struct.pack("<I", len(content)) + content)


def test_a_storage_within_a_plain_pickle_is_read_as_a_file_of_its_own() -> None:
    assert scan(program(from_bytes(storage_file()))).outcome == "clean"
    assert scan(program(tensor(from_bytes(storage_file())))).outcome == "clean"


@pytest.mark.parametrize(
    "content",
    [
        program(SYSTEM),
        storage_file(program(SYSTEM)),
        storage_file(program(SYSTEM + b"0" + storage("0", 4, "FloatStorage", "cpu", b"N"))),
        storage_file(program(storage("0", 4, "FloatStorage", "cpu", b"N") + b"0}")),
        storage_file(count=5),
        storage_file(behind=b"x"),
        storage_file(behind=program(SYSTEM)),
        storage_file()[:-1],
        storage_file(keys=("1",)),
        torch_zip(GOOD),
        b"",
    ],
)
def test_anything_else_within_a_plain_pickle_is_refused(content: bytes) -> None:
    verdict = scan(program(from_bytes(content)))
    assert verdict.outcome == "refused"
    assert {"pickle:arguments", "scan:polyglot"} & {reason.rule for reason in verdict.reasons}


def test_a_window_larger_than_the_storage_within_is_refused() -> None:
    assert scan(program(tensor(from_bytes(storage_file()), size=(3, 2)))).outcome == "refused"


def test_text_as_bytes_is_read_in_the_encoding_it_names() -> None:
    whole = storage_file().replace(b"little_endian", b"little_endi\xe9n")
    for codec, outcome in (("latin1", "clean"), ("utf-8", "refused")):
        encoded = called(name("_codecs", "encode"), text(whole.decode("latin-1")), text(codec))
        assert scan(program(called(name("torch.storage", "_load_from_bytes"), encoded))).outcome == outcome
