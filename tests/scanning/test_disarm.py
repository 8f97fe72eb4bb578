"""Disarm: what is recovered is bit for bit what was there, what would act is gone and told, and nothing hostile costs more than it is worth."""

from __future__ import annotations

import io
import json
import random
import struct
import zipfile
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load
from torch_making import Call, Global, Storage, floats, payload, pickled, tensor, torch_legacy, torch_zip

from vouchgate.scanning.disarm.low_bits import LowBits, measured, replaced
from vouchgate.scanning.disarm.rebuild import FLOOR_BYTES, Rebuilt, rebuild
from vouchgate.scanning.disarm.report import report_of, sidecar
from vouchgate.scanning.disarm.safetensors_file import Copy, Mismatch
from vouchgate.scanning.disarm.tensors import BadTensor, Tensor
from vouchgate.scanning.disarm.tensors import Storage as Bytes
from vouchgate.scanning.scan import scan
from vouchgate.scanning.verdict import Refuse

NUMBERS = tuple(float(number) for number in range(24))


def written(artifact: bytes, change: LowBits | None = None) -> tuple[Rebuilt, bytes]:
    """What disarm would write, held to itself as the process does."""
    rebuilt = rebuild(memoryview(artifact))
    parts = [artifact[piece[0] : piece[0] + piece[1]] if isinstance(piece, Copy) else bytes(piece) for piece in rebuilt.pieces(change)]
    content = b"".join(parts)
    assert rebuilt.compare(io.BytesIO(content).read, change) == len(content)
    return rebuilt, content


def arrays(artifact: bytes) -> dict[str, np.ndarray[Any, Any]]:
    return load(written(artifact)[1])


def state_dict(**more: Any) -> dict[str, Any]:
    shared = floats("0", *NUMBERS)
    return {
        "plain": tensor(shared, (4, 6), (6, 1)),
        "turned": tensor(shared, (6, 4), (1, 6)),
        "tied": tensor(shared, (4, 6), (6, 1)),
        "part": tensor(shared, (2, 3), (6, 1), 8),
        "expanded": tensor(shared, (3, 2), (0, 1), 4),
        "scalar": tensor(shared, (), (), 5),
        "none": tensor(shared, (0, 3), (3, 1)),
        **more,
    }


def expected() -> dict[str, np.ndarray[Any, Any]]:
    base = np.array(NUMBERS, dtype=np.float32).reshape(4, 6)
    return {
        "plain": base,
        "turned": base.T,
        "tied": base,
        "part": base[1:3, 2:5],
        "expanded": np.array([[4, 5]] * 3, dtype=np.float32),
        "scalar": np.array(5, dtype=np.float32),
        "none": np.empty((0, 3), dtype=np.float32),
    }


@pytest.mark.parametrize("make", [torch_zip, lambda value: torch_zip(value, packed=True)], ids=["stored", "deflated"])
def test_every_tensor_of_a_state_dict_is_what_it_was(make: Any) -> None:
    found = arrays(make(state_dict()))
    assert found.keys() == expected().keys()
    for name, array in expected().items():
        assert found[name].dtype == array.dtype and found[name].shape == array.shape
        assert found[name].tobytes() == array.tobytes(), name


def test_ties_and_strides_are_told_beside_the_tensors() -> None:
    rebuilt, _ = written(torch_zip(state_dict()))
    beside = sidecar(rebuilt)
    assert beside is not None
    assert beside["tensors"]["tied"] == {"tied_to": "plain"}
    assert beside["tensors"]["turned"] == {"strides": [1, 6]}
    report = report_of(rebuilt, (), None, has_sidecar=True)
    assert (report.tensors, report.tied, report.drops) == (7, 1, 0)


def test_a_plain_state_dict_needs_no_sidecar() -> None:
    rebuilt, _ = written(torch_zip({"w": tensor(floats("0", 1, 2), (2,), (1,))}))
    assert sidecar(rebuilt) is None


def test_a_legacy_file_and_its_views() -> None:
    whole = floats("7", *NUMBERS, legacy=True)
    seen = Storage("FloatStorage", "7", whole.data, whole.count, view=("8", 6, 12), legacy=True)
    found = arrays(torch_legacy({"a": tensor(whole, (24,), (1,)), "b": tensor(seen, (2, 6), (6, 1))}))
    assert found["a"].tolist() == list(NUMBERS)
    assert found["b"].tolist() == [list(NUMBERS[6:12]), list(NUMBERS[12:18])]


def test_bytes_behind_a_legacy_file_are_told_and_left() -> None:
    rebuilt, content = written(torch_legacy({"a": tensor(floats("0", 1, legacy=True), (1,), (1,))}, behind=b"PAYLOAD" * 9))
    assert [one.kind for one in rebuilt.findings.dropped] == ["bytes"]
    assert b"PAYLOAD" not in content


def test_numbers_of_another_byte_order_are_turned() -> None:
    found = arrays(torch_zip({"w": tensor(floats("0", 1.5, -2, big_endian=True), (2,), (1,))}, big_endian=True))
    assert found["w"].tolist() == [1.5, -2]


WRAPPED = {
    "beside": lambda held: {**held, "x": payload()},
    "tuple": lambda held: (payload(), held),
    "list": lambda held: [held, payload()],
    "argument": lambda held: Call("builtins", "exec", ("pass", held)),
    "twice": lambda held: Call("builtins", "eval", (Call("builtins", "map", (held, 1)),)),
    "state": lambda held: Call("evil", "Model", (), state=held),
    "constructed": lambda held: Call("evil", "Model", (), state=held, new=True),
    "items": lambda held: Call("builtins", "print", ("x",), items=[held]),
}


@pytest.mark.parametrize("how", WRAPPED)
@pytest.mark.parametrize("make", [torch_zip, torch_legacy], ids=["zip", "legacy"])
def test_what_is_wrapped_in_code_is_recovered_without_it(how: str, make: Any) -> None:
    held = {"w": tensor(floats("0", 1, 2, 3, legacy=make is torch_legacy), (3,), (1,))}
    rebuilt, content = written(make(WRAPPED[how](held)))
    assert load(content)["w"].tolist() == [1, 2, 3]
    assert rebuilt.findings.dropped, "what would have acted is told"
    assert scan(content).outcome == "clean"
    assert b"system" not in content and b"canary" not in content


def test_a_module_is_recovered_under_the_names_of_its_state_dict() -> None:
    def module(parameters: dict[str, Any], children: dict[str, Any]) -> Call:
        state = {"training": True, "_parameters": parameters, "_buffers": {}, "_modules": children}
        return Call("some.users.code", "Net", (), state=state, new=True)

    inner = module({"weight": tensor(floats("0", 1, 2), (2,), (1,)), "bias": None}, {})
    rebuilt, content = written(torch_zip(module({}, {"head": module({}, {"0": inner})})))
    assert list(load(content)) == ["head.0.weight"]
    assert {one.kind for one in rebuilt.findings.dropped} == {"class"}


def test_parameters_quantised_complex_and_bfloat16() -> None:
    quantised = Storage("QInt8Storage", "1", bytes([1, 2, 3, 4]), 4)
    scheme = (Global("torch", "per_tensor_affine"), 0.5, 3)
    hooks = Call("collections", "OrderedDict")
    held = {
        "q": Call("torch._utils", "_rebuild_qtensor", (quantised, 0, (2, 2), (2, 1), scheme, False, hooks)),
        "p": Call("torch._utils", "_rebuild_parameter", (tensor(floats("2", 7), (1,), (1,)), True, hooks)),
        "c": tensor(Storage("ComplexDoubleStorage", "3", struct.pack("<4d", 1, 2, 3, 4), 2), (2,), (1,)),
        "b": tensor(Storage("BFloat16Storage", "4", b"\x80\x3f\x00\x40", 2), (2,), (1,)),
    }
    rebuilt, content = written(torch_zip(held))
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    assert {name: (entry["dtype"], entry["shape"]) for name, entry in header.items() if name != "__metadata__"} == {
        "q": ("I8", [2, 2]), "p": ("F32", [1]), "c": ("F64", [2, 2]), "b": ("BF16", [2]),
    }  # fmt: skip
    beside = sidecar(rebuilt)
    assert beside is not None
    assert beside["tensors"]["c"] == {"was": "complex128"} and beside["tensors"]["q"] == {"was": "qint8"}
    assert beside["values"]["q"]["quantiser"] == {"$tuple": [{"$name": "torch.per_tensor_affine"}, 0.5, 3]}


@pytest.mark.parametrize("protocol", range(6))
def test_numpy_arrays_in_pickles_of_every_protocol(protocol: int) -> None:
    import pickle

    held = {
        "f8": np.arange(6.0).reshape(2, 3),
        "fortran": np.asfortranarray(np.arange(6, dtype=np.int16).reshape(2, 3)),
        "big": np.array([1.5, 2.5], dtype=">f4"),
        "empty": np.empty((0, 2)),
        "number": np.float32(2.5),
        "flags": np.array([True, False]),
    }
    found = arrays(pickle.dumps(held, protocol=protocol))
    for name, array in held.items():
        plain = np.asarray(array).astype(np.asarray(array).dtype.newbyteorder("<"))
        assert found[name].dtype == plain.dtype and found[name].tolist() == plain.tolist(), name


def test_arrays_without_a_dtype_of_safetensors_keep_their_bytes() -> None:
    import pickle

    records = np.array([(1, 2.5), (3, 4.5)], dtype=[("a", "i4"), ("b", "f8")])
    dates = np.array(["2020-01-01"], dtype="M8[D]")
    rebuilt, content = written(pickle.dumps({"r": records, "d": dates, "t": np.array(["ab", "c"])}, protocol=4))
    found, beside = load(content), sidecar(rebuilt)
    assert found["r"].tobytes() == records.tobytes() and found["r"].shape == (2, 12)
    assert beside is not None
    assert beside["tensors"]["r"]["was"] == "{a:<i4@0,b:<f8@4}"
    assert beside["tensors"]["d"]["was"] == "<M8[D]"
    assert found["t"].tobytes() == np.array(["ab", "c"]).tobytes()


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_numpy_archives_keep_their_names(save: Any) -> None:
    out = io.BytesIO()
    save(out, w=np.arange(4.0), b=np.asfortranarray(np.ones((2, 3), dtype=np.float16)), d=np.array(["2020"], dtype="M8[Y]"))
    rebuilt, content = written(out.getvalue())
    found = load(content)
    assert found["w"].tolist() == [0, 1, 2, 3] and found["b"].shape == (2, 3) and "d" in found
    assert rebuilt.container == "numpy-archive"


def test_an_array_of_objects_gives_its_values_and_no_call() -> None:
    out = io.BytesIO()
    np.lib.format.write_array_header_1_0(out, {"descr": "|O", "fortran_order": False, "shape": (2,)})
    rebuilt = rebuild(memoryview(out.getvalue() + pickled([payload(), {"w": 3}])))
    assert rebuilt.findings.values == {"$array": [2], "of": [{"$dropped": "posix.system"}, {"w": 3}]}


def test_plain_values_stand_in_the_sidecar_and_only_there() -> None:
    held = {"w": tensor(floats("0", 1), (1,), (1,)), "note": "${jndi:x}", "nan": float("nan"), "t": (1, b"ab"), 3: {"s": {4}}}
    rebuilt, content = written(torch_zip(held))
    values = (sidecar(rebuilt) or {})["values"]["$dict"]
    assert [item for _, item in values[1:]] == ["${jndi:x}", {"$float": "nan"}, {"$tuple": [1, {"$bytes": "YWI="}]}, {"s": {"$set": [4]}}]
    assert b"jndi" not in content
    json.dumps(sidecar(rebuilt), allow_nan=False)


def test_objects_that_hold_themselves_or_are_shared_end() -> None:
    loop: list[Any] = [tensor(floats("0", 1), (1,), (1,))]
    loop.append(loop)
    for _ in range(60):
        loop = [loop, loop]
    rebuilt, content = written(torch_zip(loop))
    assert len(load(content)) == 1
    assert "$same" in json.dumps(rebuilt.findings.values)


def test_depth_beyond_the_bound_is_told() -> None:
    deep: Any = 1
    for _ in range(150):
        deep = [deep]
    rebuilt, _ = written(torch_zip({"w": tensor(floats("0", 1), (1,), (1,)), "deep": deep}))
    assert [one.kind for one in rebuilt.findings.dropped] == ["value"]


BAD_TENSORS = {
    "beyond its storage": ((25,), (1,), 0),
    "strided beyond it": ((2, 2), (24, 1), 0),
    "offset beyond it": ((1,), (1,), 24),
    "overflowing": ((2**62, 2**62), (1, 1), 0),
    "huge stride": ((2,), (2**63,), 0),
    "another number of strides": ((2, 2), (1,), 0),
    "negative stride": ((2,), (-1,), 4),
    "negative offset": ((2,), (1,), -1),
    "rank": ((1,) * 65, (1,) * 65, 0),
}


@pytest.mark.parametrize("how", BAD_TENSORS)
def test_a_tensor_that_contradicts_its_storage_is_dropped_alone(how: str) -> None:
    shape, strides, offset = BAD_TENSORS[how]
    shared = floats("0", *NUMBERS)
    rebuilt, content = written(torch_zip({"bad": tensor(shared, shape, strides, offset), "good": tensor(shared, (24,), (1,))}))
    assert list(load(content)) == ["good"]
    assert [(one.kind, one.where) for one in rebuilt.findings.dropped] == [("fault", "bad")]


def test_an_expanded_tensor_cannot_fill_a_disk() -> None:
    huge = tensor(floats("0", 1), (FLOOR_BYTES,), (0,))
    with pytest.raises(Refuse, match="would take"):
        rebuild(memoryview(torch_zip({"w": huge})))


def test_many_names_for_one_storage_cannot_fill_a_disk() -> None:
    whole = floats("0", *([1.0] * 65_536))
    with pytest.raises(Refuse, match="would take"):
        rebuild(memoryview(torch_zip([tensor(whole, (65_536,), (1,)) for _ in range(2_000)])))


def test_a_storage_that_is_missing_or_named_by_a_path_is_dropped() -> None:
    missing = Storage("FloatStorage", "../../etc/passwd", b"", 1)
    good = tensor(floats("0", 1), (1,), (1,))
    raw = torch_zip({"m": tensor(missing, (1,), (1,)), "g": good})
    assert list(arrays(raw)) == ["g"]


def test_names_that_collide_or_cannot_be_written_get_names_of_their_own() -> None:
    one = floats("0", 1)
    held = {
        "a": {"b": tensor(one, (1,), (1,))},
        "a.b": tensor(one, (1,), (1,)),
        "__metadata__": tensor(one, (1,), (1,)),
        "": tensor(one, (1,), (1,)),
    }
    found = arrays(torch_zip(held))
    assert set(found) == {"a.b", "a.b#2", "__metadata__#1", "tensor"}


def test_other_members_of_the_archive_are_left_behind() -> None:
    raw = torch_zip({"w": tensor(floats("0", 1), (1,), (1,))}, more={"archive/code/evil.py": b"import os", "x.sh": b"#!/bin/sh"})
    rebuilt, content = written(raw)
    assert {one.what for one in rebuilt.findings.dropped} == {"archive/code/evil.py", "x.sh"}
    assert b"import os" not in content


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_an_archive_behind_other_bytes_and_with_two_members_of_a_name() -> None:
    raw = torch_zip({"w": tensor(floats("0", 5), (1,), (1,))}, more={"archive/data/0": struct.pack("<f", 9)})
    rebuilt, content = written(b"#!/bin/sh\nexit\n" + raw)
    assert load(content)["w"].tolist() == [9], "the last member counts, as in Python's reader"
    assert any(one.kind == "member" for one in rebuilt.findings.dropped)


def test_a_zip_of_several_models_keeps_them_apart() -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("a/model.pt", torch_zip({"w": tensor(floats("0", 1), (1,), (1,))}))
        archive.writestr("b.pkl", pickled({"w": 3, "x": payload()}))
    rebuilt, content = written(out.getvalue())
    assert list(load(content)) == ["a/model.pt.w"]
    assert rebuilt.findings.drops == 1


@pytest.mark.parametrize(
    "raw", [b"\x00" * 64, b"hello, world", b"PK\x03\x04" + b"\x00" * 60, pickled(payload()), pickled(Global("os", "system"))]
)
def test_what_holds_nothing_is_refused_with_a_remedy(raw: bytes) -> None:
    with pytest.raises(Refuse) as refused:
        rebuild(memoryview(raw))
    assert refused.value.reason.rule == "disarm:nothing-recovered" and refused.value.reason.remedy


def test_truncated_and_mutated_files_are_refused_or_rebuilt_and_never_fault() -> None:
    chance = random.Random(5)
    for original in (torch_zip(state_dict(x=payload())), torch_legacy({"a": tensor(floats("0", *NUMBERS, legacy=True), (24,), (1,))})):
        for _ in range(150):
            raw = bytearray(original)
            for _ in range(chance.randint(1, 6)):
                raw[chance.randrange(len(raw))] = chance.randrange(256)
            cut = bytes(raw[: chance.randint(1, len(raw))] if chance.random() < 0.4 else raw)
            try:
                _, content = written(cut)
            except Refuse:
                continue
            assert scan(content).outcome == "clean"


def test_a_changed_output_is_found_out() -> None:
    raw = torch_zip(state_dict())
    rebuilt, content = written(raw)
    for place in (9, len(content) - 1, len(content) // 2 + 8):
        changed = bytearray(content)
        changed[place] ^= 1
        with pytest.raises((Mismatch, ValueError)):
            rebuilt.compare(io.BytesIO(bytes(changed)).read)
    for other in (content[:-1], content + b"\0"):
        with pytest.raises(Mismatch):
            rebuilt.compare(io.BytesIO(other).read)


def test_gathering_a_strided_tensor_in_pieces_is_gathering_it_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    data = np.arange(2 * 3 * 4 * 5, dtype=np.int32)
    turned = data.reshape(2, 3, 4, 5).transpose(3, 1, 0, 2)
    strides = tuple(step // 4 for step in turned.strides)
    for piece in (4, 64, 1 << 20):
        monkeypatch.setattr("vouchgate.scanning.disarm.tensors.PIECE_BYTES", piece)
        made = Tensor(dtype="I32", shape=turned.shape, strides=strides, storage=Bytes(memoryview(data.tobytes())))
        assert b"".join(made.pieces()) == turned.tobytes()


def test_a_layout_made_to_cost_time_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vouchgate.scanning.disarm.tensors.MAX_SLICES", 100)
    made = Tensor(dtype="U8", shape=(16, 16, 16), strides=(1, 0, 0), storage=Bytes(memoryview(bytes(16))))
    with pytest.raises(BadTensor, match="separate pieces"):
        list(made.pieces())


@pytest.mark.parametrize(("dtype", "code", "bits"), [("F32", "<f4", 8), ("F64", "<f8", 26), ("F16", "<f2", 3)])
def test_low_bits_change_and_nothing_else_does(dtype: str, code: str, bits: int) -> None:
    before = np.random.default_rng(1).normal(size=4_000).astype(code)
    before[:3] = [0, np.inf, np.nan]
    after = np.frombuffer(replaced(before.tobytes(), dtype, bits, b"seed"), dtype=code)
    whole = f"<u{before.itemsize}"
    changed = before.view(whole) ^ after.view(whole)
    assert not (changed >> bits).any(), "no higher bit"
    assert not changed[:3].any(), "no special number"
    assert 0.4 < np.mean((changed[3:] & 1) != 0) < 0.6, "each bit is as good as drawn"


def test_a_payload_in_the_low_bits_does_not_survive_and_the_change_is_told() -> None:
    payload_bits = np.random.default_rng(2).integers(0, 256, 8_192, dtype=np.uint32)
    weights = (np.random.default_rng(3).normal(size=8_192).astype("<f4").view(np.uint32) & ~np.uint32(0xFF)) | payload_bits
    held = Storage("FloatStorage", "0", weights.astype("<u4").tobytes(), 8_192)
    raw = torch_zip({"w": tensor(held, (64, 128), (128, 1))})
    key = bytes(32)
    rebuilt, content = written(raw, LowBits(8, key))
    after = load(content)["w"].reshape(-1).view(np.uint32)
    assert np.mean((after & 0xFF) == payload_bits) < 0.02
    told = measured(rebuilt.findings.tensors, LowBits(8, key), 8, key)
    assert 0 < told.largest_relative < 2**-14 and 0 < told.output_relative < 2**-14 and told.tensors == 1


def test_an_empty_state_dict_is_an_empty_file() -> None:
    for make in (torch_zip, torch_legacy):
        assert load(written(make({}))[1]) == {}


def test_a_masked_array_keeps_its_mask() -> None:
    import pickle

    held = np.ma.masked_array([1.0, 2.0, 3.0], mask=[False, True, False])
    found = arrays(pickle.dumps({"m": held}, protocol=4))
    assert found["m"].tolist() == held.data.tolist() and found["m.mask"].tolist() == held.mask.tolist()


def test_calls_that_are_known_are_written_down_and_not_made() -> None:
    import datetime
    import pickle

    rebuilt, _ = written(pickle.dumps({"t": datetime.timedelta(3)}, protocol=4))
    assert rebuilt.findings.values == {"t": {"$call": "datetime.timedelta", "arguments": [3, 0, 0]}}
    assert rebuilt.findings.drops == 0


def test_members_of_a_tar_are_rebuilt_and_what_gives_nothing_is_told() -> None:
    import tarfile

    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, raw in (
            ("w.ckpt", torch_zip({"w": tensor(floats("0", 4), (1,), (1,)), "x": payload()})),
            ("run.sh", b"#!/bin/sh\nexit\n"),
        ):
            member = tarfile.TarInfo(name)
            member.size = len(raw)
            archive.addfile(member, io.BytesIO(raw))
    rebuilt, content = written(out.getvalue())
    assert load(content)["w.ckpt.w"].tolist() == [4]
    assert {(one.kind, one.what) for one in rebuilt.findings.dropped} == {("call", "posix.system('touch canary')"), ("member", "run.sh")}
