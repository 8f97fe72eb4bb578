"""The pickle family in every container: recognised and refused. Nothing here is ever loaded; the payloads only print."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import os
import pickle
import struct
import tarfile
import zipfile
import zlib
from typing import Any

import joblib
import numpy as np
import pytest
from artifact_making import good_safetensors, onnx_bytes
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from vouchgate.scanning.pickle_opcodes import walk
from vouchgate.scanning.scan import scan


class Payload:
    """What a malicious pickle does: call a function while it is loaded."""

    def __reduce__(self) -> tuple[Any, ...]:
        return print, ("loaded",)


def zipped(members: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return out.getvalue()


def saved(write: Any, *args: Any, **more: Any) -> bytes:
    out = io.BytesIO()
    write(out, *args, **more)
    return out.getvalue()


def dumped(value: Any, compress: Any) -> bytes:
    out = io.BytesIO()
    joblib.dump(value, out, compress=compress)
    return out.getvalue()


EVIL = pickle.dumps(Payload())
MODEL = LogisticRegression().fit(np.eye(4), [0, 1, 0, 1])
OBJECTS = saved(np.save, np.array([{"a": 1}], dtype=object), allow_pickle=True)
CASES: list[tuple[str, bytes, str]] = [
    *((f"a pickle of protocol {protocol}", pickle.dumps(Payload(), protocol), "pickle") for protocol in range(6)),
    *((f"plain data of protocol {protocol}", pickle.dumps({"a": [1, 2.5, "x"]}, protocol), "pickle") for protocol in range(6)),
    ("a pickle without PROTO by hand", b"cos\nsystem\n(S'true'\ntR.", "pickle"),
    ("a pickle that ends early", EVIL[:-1], "pickle"),
    ("two pickles", EVIL + EVIL, "pickle"),
    ("a pickle with bytes behind", EVIL + bytes(1000), "pickle"),
    ("INST", b"(S'true'\nios\nsystem\n.", "pickle"),
    ("an extension code", b"\x80\x02\x82\x01.", "pickle"),
    ("scikit-learn by pickle", pickle.dumps(MODEL), "joblib"),
    ("joblib, plain", dumped(MODEL, 0), "joblib"),
    *((f"joblib by {name}", dumped(MODEL, (name, 3)), "joblib") for name in ("zlib", "gzip", "bz2", "xz", "lzma")),
    ("a compressed pickle", zlib.compress(EVIL), "joblib"),
    ("gzip of a pickle", gzip.compress(EVIL), "joblib"),
    ("bz2 of a pickle", bz2.compress(EVIL), "joblib"),
    ("xz of a pickle", lzma.compress(EVIL), "joblib"),
    ("an lz4 frame", b"\x04\x22\x4d\x18" + bytes(30), "joblib"),
    ("torch's zip", zipped({"m/data.pkl": EVIL, "m/version": b"3"}), "torch-zip"),
    ("torch's zip, deflated", zipped({"data.pkl": EVIL}, zipfile.ZIP_DEFLATED), "torch-zip"),
    ("torch's legacy file", pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(1001, 2) + EVIL, "torch-legacy"),
    ("a numpy array of objects", OBJECTS, "numpy-objects"),
    ("a structured array with an object", saved(np.save, np.zeros(1, dtype=[("a", "f4"), ("b", "O")]), allow_pickle=True), "numpy-objects"),
    ("a numpy header beyond the bound", b"\x93NUMPY\x02\x00" + struct.pack("<I", 2**31) + b"{'descr': '<f4'}", "numpy-objects"),
    ("an archive of objects", saved(np.savez, a=np.array([None], dtype=object)), "numpy-archive-objects"),
    ("a compressed archive of objects", saved(np.savez_compressed, a=np.array([None], dtype=object)), "numpy-archive-objects"),
    ("a pickle in a zip by its name", zipped({"a/model.pkl": b"?"}), "zip-with-pickle"),
    ("a pickle in a zip by its content", zipped({"weights.txt": EVIL}), "zip-with-pickle"),
    ("a deflated pickle in a zip by its content", zipped({"weights.txt": EVIL}, zipfile.ZIP_DEFLATED), "zip-with-pickle"),
    ("any other zip", zipped({"a.txt": b"hello"}), "zip"),
    ("a zip with junk in front", b"junk" * 10 + zipped({"data.pkl": EVIL}), "torch-zip"),
    ("a zip with junk behind", zipped({"data.pkl": EVIL}) + b"junk" * 10, "torch-zip"),
    ("a zip with a comment that lies", zipped({"a.txt": b"x"})[:-2] + b"\xff\xff", "zip"),
    ("an empty zip", zipped({}), "zip"),
    ("a zip cut in its directory", zipped({"data.pkl": EVIL})[:-30], "zip"),
]


@pytest.mark.parametrize(("what", "content", "kind"), CASES, ids=[what for what, _, _ in CASES])
def test_each_container_is_recognised_and_refused_with_a_way_to_convert(what: str, content: bytes, kind: str) -> None:
    verdict = scan(content, name="lie.safetensors")
    assert (verdict.outcome, verdict.format) == ("refused", kind)
    assert "safetensors" in verdict.reasons[0].remedy or "ONNX" in verdict.reasons[0].remedy


def test_the_names_that_would_be_imported_are_told() -> None:
    assert f"{os.name}.system" in scan(pickle.dumps(os.system)).reasons[0].why
    assert "builtins.print" in scan(EVIL).reasons[0].why


@pytest.mark.parametrize(
    "content",
    [
        saved(np.save, np.zeros(3)),
        saved(np.save, np.zeros(1, dtype=[("a", "f4")])),
        b"plain text",
        b"{}",
        b"GGUF\x03\0\0\0",
        b"\x7fELF" + bytes(64),
    ],
)
def test_what_holds_no_pickle_is_unknown_and_refused(content: bytes) -> None:
    verdict = scan(content)
    assert (verdict.outcome, verdict.format) == ("refused", "unknown")


def test_a_tar_of_pickles_is_not_taken_for_a_pickle() -> None:
    """Its first bytes are a member's name, and `0.` of `0.pkl` would pass for POP, STOP."""
    assert scan(b"0.pkl".ljust(257, b"\0") + b"ustar" + bytes(1000)).format == "unknown"


POLYGLOTS: list[tuple[str, bytes]] = [
    ("a zip behind safetensors", good_safetensors() + zipped({"data.pkl": EVIL})),
    ("a zip behind ONNX", onnx_bytes() + zipped({"data.pkl": EVIL})),
    ("a zip with a long comment behind ONNX", onnx_bytes() + zipped({"a": b""})[:-2] + b"\xff\xff" + bytes(60_000)),
    ("a zip inside a tensor", good_safetensors()[:-1] + zipped({"__main__.py": b"print()"})),
]


@pytest.mark.parametrize(("what", "content"), POLYGLOTS, ids=[what for what, _ in POLYGLOTS])
def test_two_formats_in_one_are_refused_as_that(what: str, content: bytes) -> None:
    verdict = scan(content)
    assert (verdict.outcome, verdict.format) == ("refused", "polyglot")


def test_an_archive_wholly_inside_a_tensor_is_a_polyglot() -> None:
    """The safetensors file is exact to the last byte, and Python would run it as an archive."""
    from artifact_making import entry, safetensors

    inside = zipped({"__main__.py": b"print()"})
    content = safetensors({"w": entry("U8", [len(inside)], 0, len(inside))}, inside)
    assert scan(content).format == "polyglot"
    harmless = bytes(range(256)) * 8
    assert scan(safetensors({"w": entry("U8", [len(harmless)], 0, len(harmless))}, harmless)).outcome == "clean"


def test_a_tar_in_a_safetensors_header_is_a_polyglot() -> None:
    """tarfile goes by the checksum alone: the header's JSON can hold one that fits."""
    from artifact_making import safetensors

    head = b'{"__metadata__":{"a":"'
    # Offsets in the file: mode, owner and size in octal from 100, checksum from 148; the JSON begins at 8.
    text = bytearray(head + b"0" * (504 - len(head) - 3) + b'"}}')
    content = bytearray(safetensors(bytes(text)))
    total = sum(content[:148]) + 8 * 32 + sum(content[156:512])
    content[148:156] = b"%08o" % total
    assert tarfile.TarFile.open(fileobj=io.BytesIO(content), mode="r:", errorlevel=0) is not None
    verdict = scan(bytes(content))
    assert (verdict.outcome, verdict.format) == ("refused", "polyglot")
    assert "tar" in verdict.reasons[0].why


@pytest.mark.parametrize("place", [512, 1024, 4096])
def test_an_hdf5_superblock_behind_a_user_block_is_a_polyglot(place: int) -> None:
    from artifact_making import entry, safetensors

    header = json.dumps({"w": entry("U8", [8192], 0, 8192)}).encode().ljust(120)
    content = bytearray(safetensors(header, bytes(8192)))
    assert scan(bytes(content)).outcome == "clean"
    content[place : place + 8] = b"\x89HDF\r\n\x1a\n"
    assert scan(bytes(content)).format == "polyglot"
    content[place : place + 8] = bytes(8)
    content[place + 1 : place + 9] = b"\x89HDF\r\n\x1a\n"
    assert scan(bytes(content)).outcome == "clean"


def test_a_pickle_behind_safetensors_or_in_front_is_refused() -> None:
    assert scan(good_safetensors() + EVIL).outcome == "refused"
    assert scan(EVIL + good_safetensors()).format == "pickle"
    assert scan(EVIL + onnx_bytes()).format == "pickle"


@given(
    st.recursive(st.none() | st.integers() | st.floats() | st.text() | st.binary(), lambda inner: st.lists(inner) | st.tuples(inner)),
    st.integers(0, 5),
)
def test_every_pickle_that_python_writes_is_walked_to_its_stop(value: Any, protocol: int) -> None:
    content = pickle.dumps(value, protocol)
    seen = walk(memoryview(content))
    assert seen.stopped_at == len(content)
    assert seen.imports == () or protocol < 3  # below protocol 3, bytes are written as a call of codecs.encode
    assert scan(content).outcome == "refused"


@given(st.binary(max_size=300))
def test_the_walk_ends_on_any_bytes(content: bytes) -> None:
    seen = walk(memoryview(content))
    assert seen.steps <= len(content)
    assert seen.stopped_at <= len(content)
