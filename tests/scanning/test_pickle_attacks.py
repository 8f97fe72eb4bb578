"""Pickles that no pickler writes: each is refused by its rule, whatever it hides behind. Nothing is ever loaded."""

from __future__ import annotations

import io
import pickle
import struct
from typing import Any

import joblib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pickle_making import STOP, called, made, name, number, program, several, text

from vouchgate.scanning.scan import scan

SYSTEM = name("posix", "system")
CALL = called(SYSTEM, text("true"))
NAMESPACE = name("argparse", "Namespace")
ENCODED = name("_codecs", "encode")


def state(*pairs: bytes) -> bytes:
    return b"}(" + b"".join(pairs) + b"u" + b"b"


def bomb(depth: int, opcode: bytes) -> bytes:
    """Tuples of the last one, twice, as a key."""
    return b"}" + b")" + b"".join(b"2" + b"\x86" for _ in range(depth)) + b"K\x01" + opcode


def framed(body: bytes, length: int) -> bytes:
    return b"\x80\x04\x95" + struct.pack("<Q", length) + body


DTYPE = called(name("numpy", "dtype"), text("f8"), b"\x89", b"\x88")
POINTERS = (
    called(name("numpy", "dtype"), text("O8"), b"\x89", b"\x88")
    + several(number(3), text("|"), b"N", b"N", b"N", number(-1), number(-1), number(0))
    + b"b"
)
OBJECTS = (
    called(name("numpy", "dtype"), text("O8"), b"\x89", b"\x88")
    + several(number(3), text("|"), b"N", b"N", b"N", number(-1), number(-1), number(63))
    + b"b"
)
EMPTY_ARRAY = called(name("numpy._core.multiarray", "_reconstruct"), name("numpy", "ndarray"), several(number(0)), b"C\x01b")

CASES: dict[str, tuple[bytes, str]] = {
    "a call": (program(CALL), "unknown-call"),
    "a call in protocol 0": (b"cposix\nsystem\n(S'true'\ntR.", "unknown-call"),
    "Python 2's name of a module": (b"c__builtin__\neval\n(S'1'\ntR.", "unknown-call"),
    "Python 2's name of a function": (b"ccommands\ngetoutput\n(S'true'\ntR.", "unknown-call"),
    "INST": (b"(S'true'\niposix\nsystem\n.", "unknown-call"),
    "OBJ": (b"(" + SYSTEM + b"S'true'\no.", "unknown-call"),
    "NEWOBJ": (program(made(name("subprocess", "Popen"), text("true"))), "unknown-call"),
    "NEWOBJ_EX": (program(name("subprocess", "Popen") + b")" + b"}" + b"\x92", protocol=4), "unknown-call"),
    "a call that is popped": (program(CALL + b"0N"), "unknown-call"),
    "a call that is popped to a mark": (program(b"(" + CALL + b"1N"), "unknown-call"),
    "a name that is popped": (program(SYSTEM + b"0N"), "unknown-name"),
    "a name that is only held": (program(several(SYSTEM)), "unknown-name"),
    "a call by the memo": (program(SYSTEM + b"q\x000h\x00" + several(text("true")) + b"R"), "unknown-call"),
    "a memo that is overwritten": (program(NAMESPACE + b"q\x000" + SYSTEM + b"q\x000h\x00" + several(text("true")) + b"R"), "unknown-call"),
    "the result of a call that is called": (program(called(called(name("functools", "partial"), name("builtins", "len")), text("x"))), "calls-result"),
    "a name that the stack computes": (program(text("posix") + called(ENCODED, text("system")) + b"\x93", protocol=4), "computed-name"),
    "a dotted name": (program(text("collections") + text("OrderedDict.__init__.__globals__") + b"\x93", protocol=4), "unknown-name"),
    "a module through another": (program(text("torch.storage") + text("os.system") + b"\x93" + several(text("true")) + b"R", protocol=4), "unknown-call"),
    "a name that is not ASCII": (program(text("os") + text("ſystem") + b"\x93", protocol=4), "odd-name"),
    "a name with a zero byte": (program(text("os\0") + text("system") + b"\x93", protocol=4), "odd-name"),
    "getattr of an instance": (program(called(name("builtins", "getattr"), made(NAMESPACE), text("x"))), "unknown-name"),
    "getattr of what a call gave": (program(called(name("builtins", "getattr"), called(NAMESPACE), text("x"))), "getattr"),
    "getattr of a dunder": (program(called(name("builtins", "getattr"), NAMESPACE, text("__init__"))), "getattr"),
    "getattr of what is not known": (program(called(name("builtins", "getattr"), NAMESPACE, text("x"))), "unknown-name"),
    "an extension": (b"\x80\x02\x82\x01.", "extension"),
    "an out-of-band buffer": (b"\x80\x05\x97.", "out-of-band"),
    "a persistent id": (program(b"N0N0N0K\x01Q"), "persistent-id"),
    "a second PROTO": (program(b"\x80\x02N"), "protocol"),
    "a memo miss": (program(b"h\x05"), "memo"),
    "a memo index that reserves memory": (program(b"Nr\xff\xff\xff\xff"), "memo-index"),
    "an empty stack": (program(b"R"), "stack"),
    "a mark too few": (program(b"t"), "stack"),
    "no STOP": (program(CALL)[:-1], "unknown-call"),
    "a length beyond the end": (program(b"N0N0N0B\xff\xff\xff\x7f"), "truncated"),
    "a bytearray of the whole address space": (program(b"N0N0N0\x96" + b"\xff" * 8, protocol=5), "truncated"),
    "a negative length": (program(b"N0N0N0\x8b\xff\xff\xff\xff"), "length"),
    "an opcode over a frame's end": (framed(b"X\x02\0\0\0ab.", 5), "frame"),
    "a frame in a frame": (framed(b"\x95" + struct.pack("<Q", 1) + b"N.", 12), "frame"),
    "a frame beyond the end": (framed(b"N.", 200), "frame"),
    "a frame that goes on behind STOP": (framed(b"N." + b"N.", 4), "frame"),
    "leftovers on the stack": (program(b"NN"), "leftover"),
    "state on a class": (program(NAMESPACE + state(text("x"), b"N")), "state-of-a-name"),
    "state on a function": (program(name("builtins", "len") + state(text("x"), b"N")), "state-of-a-name"),
    "state twice": (program(made(NAMESPACE) + state(text("x"), b"N") + state(text("y"), b"N")), "second-state"),
    "a dunder in a state": (program(made(NAMESPACE) + state(text("__class__"), b"N")), "state"),
    "a dunder in slots": (program(made(NAMESPACE) + b"(N}" + text("__class__") + b"Nstb"), "state"),
    "a key that is no name in a state": (program(made(NAMESPACE) + state(text("a b"), b"N")), "state"),
    "a state that sets a function": (program(made(NAMESPACE) + state(text("x"), SYSTEM)), "unknown-name"),
    "items on an instance": (program(made(NAMESPACE) + b"Na"), "items"),
    "keys on an instance": (program(made(NAMESPACE) + text("x") + b"Ns"), "items"),
    "a function that only loaders may call, held": (program(several(ENCODED)), "not-inert"),
    "a lent class, held as well": (
        program(name("copyreg", "_reconstructor") + several(name("catboost.core", "CatBoost"), name("builtins", "object"), b"N") + b"q\x00Rh\x00\x86"),
        "not-inert",
    ),
    "bytes by a size alone": (program(called(name("builtins", "bytearray"), number(2**31 - 1))), "arguments"),
    "an encoding that acts": (program(called(ENCODED, text("x"), text("zip"))), "arguments"),
    "a type made from nothing": (program(called(name("builtins", "type"), text("A"), b")", b"}")), "arguments"),
    "a factory that acts": (program(called(name("collections", "defaultdict"), SYSTEM)), "unknown-name"),
    "a partial that acts": (program(called(name("functools", "partial"), SYSTEM)), "unknown-name"),
    "a hashing bomb as a key": (program(bomb(60, b"s")), "key"),
    "a hashing bomb in a set": (program(called(name("builtins", "set"), b"]" + bomb(60, b"")[1:-2] + b"a")), "arguments"),
    "a hashing bomb in a frozenset": (program(b"(" + bomb(60, b"")[1:-2] + b"\x91", protocol=4), "key"),
    "a list as a key": (program(b"}]Ns"), "key"),
    "a base that is not plain": (
        program(called(name("copyreg", "_reconstructor"), NAMESPACE, name("posix", "system"), b"N")), "arguments"),
    "an array too long for its data": (
        program(EMPTY_ARRAY + several(number(1), several(number(9)), DTYPE, b"\x89", b"C\x08" + bytes(8)) + b"b"), "state"),
    "an array whose bytes become pointers": (
        program(EMPTY_ARRAY + several(number(1), several(number(1)), POINTERS, b"\x89", b"C\x08" + bytes(8)) + b"b"), "state"),
    "an array of the whole address space": (
        program(called(name("numpy._core.multiarray", "_reconstruct"), name("numpy", "ndarray"), several(number(2**30), number(2**30)), b"C\x01b")),
        "arguments",
    ),
    "a dtype that becomes one of objects behind its array": (
        program(
            called(name("numpy", "dtype"), text("V8"), b"\x89", b"\x88") + b"q\x070"
            + EMPTY_ARRAY + several(number(1), several(number(1)), b"h\x07", b"\x89", b"C\x08" + bytes(8)) + b"b0h\x07"
            + several(number(3), text("|"), b"N", several(text("a")), b"}" + text("a") + several(OBJECTS, number(0)) + b"s",
                      number(8), number(8), number(27))
            + b"b"
        ),
        "second-state",
    ),
    "dtypes of dtypes of one dtype": (
        program(
            DTYPE + b"q\x070"
            + b"".join(
                called(name("numpy", "dtype"), text("V0"), b"\x89", b"\x88")
                + several(number(3), text("|"), b"N", several(*(text(one) for one in "abcdefgh")),
                          b"}(" + b"".join(text(one) + several(b"h\x07", number(0)) for one in "abcdefgh") + b"u", number(8), number(1), number(0))
                + b"bq\x070"
                for _ in range(14)
            )
            + b"h\x07"
        ),
        "too-much-work",
    ),
    "a str of bytes in a codec": (program(called(name("builtins", "str"), b"C\x01x", text("zlib"))), "arguments"),
    "a ufunc that is none": (program(called(name("numpy._core", "_ufunc_reconstruct"), text("os"), text("system"))), "arguments"),
    "a generator's position outside of its buffer": (
        program(
            called(name("numpy.random._pickle", "__bit_generator_ctor"), text("MT19937"))
            + state(text("state"), b"}" + text("pos") + number(10_000) + b"s")
        ),
        "state",
    ),
    "a file opened by numpy": (program(called(name("numpy", "memmap"), text("/etc/passwd"))), "not-callable"),
}  # fmt: skip


@pytest.mark.parametrize("what", CASES)
def test_each_is_refused_by_its_rule(what: str) -> None:
    content, rule = CASES[what]
    verdict = scan(content)
    assert verdict.outcome == ("incomplete" if rule == "too-much-work" else "refused")
    assert f"pickle:{rule}" in {reason.rule for reason in verdict.reasons}
    assert all(reason.where.startswith("offset ") and reason.remedy for reason in verdict.reasons)


@pytest.mark.parametrize("what", ["a call", "NEWOBJ", "a call by the memo", "a call that is popped"])
def test_a_call_is_found_behind_a_long_clean_part(what: str) -> None:
    content = CASES[what][0]
    padding = b"".join(b"K\x010" for _ in range(30_000))
    verdict = scan(content[:2] + padding + content[2:])
    assert verdict.outcome == "refused"
    assert "pickle:unknown-call" in {reason.rule for reason in verdict.reasons}


def test_all_names_are_told_and_not_only_the_first() -> None:
    content = program(CALL + b"0" + called(name("shutil", "rmtree"), text("x")))
    whys = " ".join(reason.why for reason in scan(content).reasons)
    assert "posix.system" in whys
    assert "shutil.rmtree" in whys
    assert "vouchgate disarm" in scan(content).reasons[0].remedy


def test_the_same_look_is_not_paid_for_by_the_scanner_again_and_again() -> None:
    mixed = b"](" + (b"K\x01" + text("x")) * 100_000 + b"eq\x070"
    again = b"".join(called(name("time", "struct_time"), b"h\x07") + b"0" for _ in range(60))
    verdict = scan(program(mixed + again + b"N"))
    assert (verdict.outcome, verdict.reasons[0].rule) == ("incomplete", "pickle:too-much-work")


@pytest.mark.parametrize("extra", [b"\0", b"junk" * 100, b"N", b"\x80\x04", program(CALL)])
def test_bytes_behind_the_end_are_refused(extra: bytes) -> None:
    assert scan(pickle.dumps([1, 2]) + extra).outcome == "refused"


@pytest.mark.parametrize("cut", range(1, 60, 7))
def test_a_cut_pickle_is_refused(cut: int) -> None:
    content = pickle.dumps({"a": np.arange(4.0), "b": "text"}, 4)
    assert scan(content[:-cut]).outcome == "refused"


def test_text_that_imports_is_no_text() -> None:
    verdict = scan(b"cposix\nsystem\n(S'true'\ntR.\n")
    assert (verdict.outcome, verdict.format) == ("refused", "pickle")
    quoted = b"S'" + b"x" * 10_000 + b"'\n0cposix\nsystem\n(S'true'\ntR."
    assert scan(quoted).format == "pickle"
    assert scan(quoted).outcome == "refused"


def joblib_bytes(value: Any) -> bytes:
    out = io.BytesIO()
    joblib.dump(value, out)
    return out.getvalue()


def test_an_inline_array_that_lies_is_refused() -> None:
    content = joblib_bytes([np.arange(100.0)])
    padding = content.index(b"\xff\xff")
    for changed in (
        content[: padding - 1] + b"\x00" + content[padding:],
        content[:padding] + b"\x00" + content[padding + 1 :],
        content[:-300],
    ):
        assert scan(changed).outcome == "refused"


def test_an_inline_array_that_is_a_program_to_a_plain_unpickler_is_refused() -> None:
    whole = joblib_bytes([np.zeros(len(CALL), dtype=np.uint8)])
    key = b"\x8c\x1bnumpy_array_alignment_bytes"
    assert key in whole
    begin = whole.index(key)
    without = whole[:begin] + whole[whole.index(b"u", begin) :]  # before joblib 1.2 the data followed at once
    assert b"\xff" in without[begin:]
    data = without.index(b"ub", begin) + 2
    end = data + without[data] + 1
    length = int.from_bytes(without[3:11], "little") - (whole.index(b"u", begin) - begin)
    older = without[:3] + struct.pack("<Q", length) + without[11:data] + CALL + without[end + len(CALL) :]
    verdict = scan(older)
    assert verdict.outcome == "refused"


SEEDS = [
    pickle.dumps({"a": np.arange(3.0), "b": [1.5] * 20, "c": {"d": None}}, protocol) for protocol in range(6)
] + [joblib_bytes({"a": np.arange(50.0), "b": np.array([None, 1], dtype=object)}), *(content for content, rule in CASES.values() if rule != "too-much-work")]  # fmt: skip


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(SEEDS), st.integers(0, 5_000), st.binary(min_size=1, max_size=4), st.booleans())
def test_no_mutation_crashes_the_machine(content: bytes, place: int, noise: bytes, insert: bool) -> None:
    place %= len(content)
    changed = content[:place] + noise + content[place + (0 if insert else len(noise)) :]
    verdict = scan(changed)
    assert verdict.outcome in ("clean", "refused", "review")
    assert not any(reason.rule == "scan:fault" for reason in verdict.reasons)
    if any(word in changed for word in (b"posix", b"subprocess")) and verdict.format == "pickle":
        assert verdict.outcome == "refused" or b"system" not in changed


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.sampled_from(
            [bytes((code,)) for code in b"(tlde0a12N)]}sub.RoiQ\x81\x85\x86\x87\x8f\x90\x91\x94K\x01"]
            + [NAMESPACE, SYSTEM, text("x"), CALL]
        ),
        max_size=40,
    )
)
def test_no_order_of_opcodes_crashes_the_machine_or_hides_a_call(parts: list[bytes]) -> None:
    content = b"\x80\x02NN" + b"".join(parts) + STOP
    verdict = scan(content)
    assert not any(reason.rule == "scan:fault" for reason in verdict.reasons)
    assert verdict.outcome == "refused" or SYSTEM not in content


def test_a_long_text_in_no_encoding_breaks_the_pickle_and_not_the_scanner() -> None:
    array = b"\x80\x04\x8c\x16numpy._core.multiarray\x8c\x0c_reconstruct\x93\x8c\x05numpy\x8c\x07ndarray\x93K\x00\x85C\x01b\x87R"
    text = b"X" + (100_000).to_bytes(4, "little") + b"x" * 99_999 + b"\xff"
    data = b"\x8c\x07_codecs\x8c\x06encode\x93" + text + b"\x8c\x06latin1\x86R"
    dtype = b"\x8c\x05numpy\x8c\x05dtype\x93\x8c\x02u1\x89\x88\x87R(K\x03\x8c\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    verdict = scan(array + b"(K\x01J" + (100_000).to_bytes(4, "little") + b"\x85" + dtype + b"\x89" + data + b"tb.")
    assert [reason.rule for reason in verdict.reasons] == ["pickle:text"]
