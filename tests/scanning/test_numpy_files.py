"""numpy's files: plain arrays are clean and exactly as long as they say, arrays of objects are judged as pickles."""

from __future__ import annotations

import io
import pickle
import struct
from typing import Any

import numpy as np
import pytest
from pickle_making import called, name, program, text, zipped

from vouchgate.scanning.scan import scan

SYSTEM = program(called(name("posix", "system"), text("true")))


def saved(write: Any, *args: Any, **more: Any) -> bytes:
    out = io.BytesIO()
    write(out, *args, **more)
    return out.getvalue()


def npy(header: str, data: bytes = b"", *, version: tuple[int, int] = (1, 0), length: int | None = None) -> bytes:
    """A file with this header; `length` lies about it."""
    raw = header.encode()
    width = "<H" if version == (1, 0) else "<I"
    return b"\x93NUMPY" + bytes(version) + struct.pack(width, len(raw) if length is None else length) + raw + data


ARRAYS = [
    np.arange(6.0).reshape(2, 3), np.asfortranarray(np.eye(3)), np.array(5), np.zeros((0, 4)), np.array(["a", "bc"]), np.array([b"x"]),
    np.array(["2020-01-01"], dtype="M8[D]"), np.zeros(3, dtype=[("a", "<f4"), ("b", "S3"), ("c", [("d", "i2", (2, 2))])]),
    np.zeros(2, dtype=[(("title", "a"), "<f4"), ("", "u1")]), np.zeros(2, np.complex128), np.zeros(2, bool), np.zeros(2, ">i4"),
    np.zeros(2, dtype=np.dtype({"names": ["a", "b"], "formats": ["i1", "f8"], "offsets": [0, 8], "itemsize": 24})),
]  # fmt: skip


@pytest.mark.parametrize("array", ARRAYS, ids=lambda array: str(array.dtype))
def test_plain_arrays_are_clean(array: Any) -> None:
    content = saved(np.save, array)
    verdict = scan(content)
    assert (verdict.outcome, verdict.format, verdict.reasons) == ("clean", "numpy", ())
    assert scan(content + b"x").reasons[0].rule == "numpy:size-mismatch"
    assert scan(content[:-1]).outcome == "refused"


@pytest.mark.parametrize("array", [np.array([{"a": 1}, None], dtype=object), np.zeros(1, dtype=[("a", "f4"), ("b", "O")])], ids=str)
def test_arrays_of_objects_are_judged(array: Any) -> None:
    content = saved(np.save, array, allow_pickle=True)
    assert scan(content).outcome == "clean"
    end = content.index(b"\n") + 1
    for behind in (SYSTEM, content[end:] + SYSTEM, b"", content[end:-1]):
        assert scan(content[:end] + behind).outcome == "refused"


@pytest.mark.parametrize(
    "content",
    [
        npy("{'descr': '<f8', 'fortran_order': False, 'shape': (3,), }", bytes(23)),
        npy("{'descr': '<f8', 'fortran_order': False, 'shape': (3,), 'more': 1}", bytes(24)),
        npy("{'descr': '<f8', 'fortran_order': False, 'shape': (-3,), }", bytes(24)),
        npy("{'descr': '<f8', 'fortran_order': False, 'shape': (True,), }", bytes(8)),
        npy("{'descr': '<f8', 'fortran_order': False, 'shape': (4294967296, 4294967296, 0), }"),
        npy("{'descr': '<f8', 'fortran_order': 1, 'shape': (3,), }", bytes(24)),
        npy("{'descr': '<z8', 'fortran_order': False, 'shape': (3,), }", bytes(24)),
        npy("{'descr': [], 'fortran_order': False, 'shape': (3,), }"),
        npy("{'descr': [('a', '<f4'), ('a', '<f4')], 'fortran_order': False, 'shape': (1,), }", bytes(8)),
        npy("{'descr': '<f8', 'fortran_order': False, 'shape': __import__('os'), }", bytes(24)),
        npy("{'descr': '<f8', 'fortran_order': False, 'shape': (3,), }", bytes(24), length=5_000),
        npy("{'descr': '<f8', 'fortran_order': False, 'shape': (3,), }", bytes(24), version=(9, 0)),
        npy("(" * 300 + ")" * 300),
        npy("-" * 60_000 + "1"),
        npy("", length=0),
        b"\x93NUMPY",
        b"\x93NUMPY\x02\0" + struct.pack("<I", 2**31) + b"{'descr': '<f4'}",
    ],
)
def test_headers_that_do_not_add_up_are_refused(content: bytes) -> None:
    verdict = scan(content)
    assert (verdict.outcome, verdict.format) == ("refused", "numpy")


def test_archives_of_arrays() -> None:
    for write in (np.savez, np.savez_compressed):
        content = saved(write, a=np.eye(3), b=np.arange(4))
        verdict = scan(content)
        assert (verdict.outcome, verdict.format, verdict.facts["arrays"]) == ("clean", "numpy-archive", 2)
    objects = saved(np.savez, a=np.array([1, "x"], dtype=object))
    assert scan(objects).outcome == "clean"


@pytest.mark.parametrize(
    "members",
    [
        {"a.npy": saved(np.save, np.eye(2)), "b.npy": SYSTEM},
        {"a.npy": npy("{'descr': '|O', 'fortran_order': False, 'shape': (1,), }", SYSTEM)},
        {"a.npy": b"text"},
        {"a.npy": pickle.dumps([1])},
        {"a.npy": saved(np.save, np.eye(2)), "../b.npy": saved(np.save, np.eye(2))},
    ],
)
def test_archives_with_anything_else_are_refused(members: dict[str, bytes]) -> None:
    verdict = scan(zipped(members))
    assert (verdict.outcome, verdict.format) == ("refused", "numpy-archive")
