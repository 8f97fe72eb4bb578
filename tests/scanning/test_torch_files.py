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
from vouchgate.scanning.torchscript_code import outside

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


def test_torchscript_is_up_for_review() -> None:
    verdict = scan(script(CODE))
    assert (verdict.outcome, verdict.format) == ("review", "torchscript")
    assert [reason.rule for reason in verdict.reasons] == ["torchscript:carries-code"]


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


def test_code_is_read_as_a_tree() -> None:
    assert outside(CODE.encode()) == ""
    assert outside(b"x = ops.torchvision.nms(a, b)") == ""
    assert "ops.image.read_file" in outside(b"x = ops.image.read_file(a)")
    assert "from_file" in outside(b"x = torch.from_file(a)")
    assert outside(b"(" * 5_000)
    assert outside(b"x = " + b"-" * 100_000 + b"1")


def test_a_zip_of_a_pickle_is_scanned_inside() -> None:
    verdict = scan(zipped({"a/model.pkl": program(SYSTEM)}))
    assert (verdict.outcome, verdict.format) == ("refused", "zip")
    assert verdict.reasons[0].member == "a/model.pkl"


def test_a_number_of_elements_that_overflows_is_refused() -> None:
    content = torch_legacy(LEGACY, {"94": bytes(16)})
    changed = content[:-24] + struct.pack("<Q", 2**64 - 1) + content[-16:]
    assert scan(changed).outcome == "refused"
