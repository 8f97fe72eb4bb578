"""TensorFlow's variables are rebuilt bit for bit as TensorFlow itself reads them, and an index that lies gives nothing it should not."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load

from vouchgate.scanning.disarm.bundles import named, slice_key
from vouchgate.scanning.disarm.folders import MAX_WANTED, rebuild_folder, wanted
from vouchgate.scanning.disarm.rebuild import Rebuilt
from vouchgate.scanning.disarm.report import sidecar
from vouchgate.scanning.disarm.safetensors_file import Copy
from vouchgate.scanning.scan import scan
from vouchgate.scanning.tensor_bundle import crc32c, masked
from vouchgate.scanning.verdict import Refuse

SAMPLES = Path(__file__).parent / "samples"
INDEX, SHARD = "variables/variables.index", "variables/variables.data-00000-of-00001"


def files(folder: str) -> dict[str, bytes]:
    root = SAMPLES / folder
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def written(given: dict[str, bytes]) -> tuple[Rebuilt, bytes]:
    """What disarm would write, held to itself as the process does."""
    names = wanted(given)
    rebuilt = rebuild_folder(names, [memoryview(given[name]) for name in names], given.keys() - set(names))
    space = b"".join(given[name] for name in names)
    content = b"".join(space[piece[0] : piece[0] + piece[1]] if isinstance(piece, Copy) else bytes(piece) for piece in rebuilt.pieces())
    assert rebuilt.compare(io.BytesIO(content).read) == len(content)
    assert scan(content).outcome == "clean"
    return rebuilt, content


def raw(content: bytes) -> dict[str, tuple[str, tuple[int, ...], bytes]]:
    """Every tensor by the file's own header: numpy's reader lacks some of the types."""
    length = int.from_bytes(content[:8], "little")
    held = {name: one for name, one in json.loads(content[8 : 8 + length]).items() if name != "__metadata__"}
    return {
        name: (one["dtype"], tuple(one["shape"]), content[8 + length + one["data_offsets"][0] : 8 + length + one["data_offsets"][1]])
        for name, one in held.items()
    }


def test_every_type_and_shard_is_what_tensorflow_reads() -> None:
    rebuilt, content = written(files("checkpoint"))
    found, expected = raw(content), np.load(SAMPLES / "checkpoint.npz")
    whole = [name for name in expected.files if name != "cut/kernel"]
    assert {name for name in found if not name.startswith("cut.")} == {name.replace("/", ".") for name in whole}
    for name in whole:
        _, shape, data = found[name.replace("/", ".")]
        assert data == expected[name].tobytes(), name
        assert shape == expected[name].shape + ((2,) if name.endswith("complex128") else ()), name
    assert found["kinds.bfloat16"][0] == "BF16" and found["kinds.float8_e4m3fn"][0] == "F8_E4M3" and found["kinds.uint16"][0] == "U16"
    parts = [np.frombuffer(found[name][2], "<f4").reshape(found[name][1]) for name in ("cut.kernel[0:2,:]", "cut.kernel[2:102,:]")]
    assert np.concatenate(parts).tobytes() == expected["cut/kernel"].tobytes()
    beside = sidecar(rebuilt)
    assert beside is not None and beside["values"]["cut.kernel"] == {
        "$sliced": [102, 2],
        "parts": ["cut.kernel[0:2,:]", "cut.kernel[2:102,:]"],
    }
    assert beside["values"]["kinds.string"] == {"$texts": ["ä", {"$bytes": "/w=="}, ""], "shape": [3]}
    assert beside["tensors"]["kinds.complex128"] == {"was": "complex128"}


def test_a_saved_model_gives_its_variables_and_tells_what_is_left() -> None:
    rebuilt, content = written(files("saved_model"))
    assert raw(content)["weights"] == ("F32", (3, 4), np.arange(12, dtype="<f4").tobytes())
    assert rebuilt.container == "tf-savedmodel" and rebuilt.metadata["format"] == "tf"
    assert {(one.kind, one.where) for one in rebuilt.findings.dropped} == {
        ("value", "_CHECKPOINTABLE_OBJECT_GRAPH"), ("member", "assets/vocabulary.txt"), ("member", "fingerprint.pb"), ("member", "saved_model.pb"),
    }  # fmt: skip


def test_a_graph_that_acts_does_not_keep_the_variables_back() -> None:
    rebuilt, content = written({**files("saved_model"), "saved_model.pb": b"\x08\x01PyFunc ReadFile /etc/passwd", "evil.py": b"import os"})
    assert "weights" in raw(content) and b"PyFunc" not in content and b"passwd" not in str(sidecar(rebuilt)).encode()


def test_two_checkpoints_of_one_folder_keep_apart() -> None:
    one = {
        name.replace("variables/variables", f"at/ckpt-{step}"): data
        for step in (1, 2)
        for name, data in files("saved_model").items()
        if "variables" in name
    }
    rebuilt, content = written(one)
    assert {"at.ckpt-1.weights", "at.ckpt-2.weights"} <= raw(content).keys() and rebuilt.container == "tensor-bundle"


@pytest.mark.parametrize(
    ("changed", "kept", "why"),
    [
        ({SHARD: files("saved_model")[SHARD][:48]}, {"weights"}, "behind its shard"),
        ({SHARD: b"\1" + files("saved_model")[SHARD][1:]}, {"half"}, "checksum"),
        ({SHARD: None, "variables/variables.data-00001-of-00002": b"x"}, set(), "is not there"),
        ({INDEX: files("saved_model")[INDEX][:-1]}, set(), "footer"),
        ({INDEX: b""}, set(), "footer"),
    ],
)  # fmt: skip
def test_what_is_damaged_is_not_carried_over(changed: dict[str, Any], kept: set[str], why: str) -> None:
    given = {name: data for name, data in {**files("saved_model"), **changed}.items() if data is not None}
    if not kept:
        with pytest.raises(Refuse) as refused:
            written(given)
        assert why in refused.value.reason.why
        return
    rebuilt, content = written(given)
    assert raw(content).keys() == kept and any(why in one.why for one in rebuilt.findings.dropped)


def varint(value: int) -> bytes:
    found = b""
    while value > 127:
        found, value = found + bytes([value & 127 | 128]), value >> 7
    return found + bytes([value])


def block(entries: list[tuple[bytes, bytes]]) -> bytes:
    body = (
        b"".join(b"\0" + varint(len(key)) + varint(len(value)) + key + value for key, value in entries)
        + (0).to_bytes(4, "little")
        + (1).to_bytes(4, "little")
    )
    return body + b"\0" + masked(crc32c(body + b"\0")).to_bytes(4, "little")


def table(entries: list[tuple[bytes, bytes]]) -> bytes:
    """A table of one block, as LevelDB writes it."""
    data, meta = block([(b"", b"\x08\x01"), *entries]), block([])
    index = block([(b"\xff", varint(0) + varint(len(data) - 5))])
    footer = varint(len(data)) + varint(len(meta) - 5) + varint(len(data) + len(meta)) + varint(len(index) - 5)
    return data + meta + index + footer.ljust(40, b"\0") + bytes.fromhex("57fb808b247547db")


def entry(dtype: int, shape: list[int], size: int, offset: int = 0, data: bytes = b"", slices: bytes = b"") -> bytes:
    dims = b"".join(b"\x12" + varint(len(one)) + one for one in (b"\x08" + varint(size) for size in shape))
    crc = masked(crc32c(data)).to_bytes(4, "little")
    return (
        b"\x08"
        + varint(dtype)
        + b"\x12"
        + varint(len(dims))
        + dims
        + b"\x20"
        + varint(offset)
        + b"\x28"
        + varint(size)
        + b"\x35"
        + crc
        + slices
    )


def given(entries: list[tuple[bytes, bytes]], shard: bytes) -> dict[str, bytes]:
    return {"m.index": table(entries), "m.data-00000-of-00001": shard}


DATA = bytes(range(16))


def test_two_keys_with_one_name_are_two_tensors() -> None:
    _, content = written(given([(b"a.b", entry(4, [4], 4, 0, DATA[:4])), (b"a/b", entry(4, [4], 4, 4, DATA[4:8]))], DATA))
    assert {name: array.tobytes() for name, array in load(content).items()} == {"a.b": DATA[:4], "a/b": DATA[4:8]}


@pytest.mark.parametrize(
    ("name", "made"),
    [
        ("more texts than bytes", entry(7, [2**40], 16)),
        ("texts of another length", entry(7, [1], 16)),
        ("a shape that overflows", entry(4, [2**62, 4], 0)),
        ("a shape of no bytes with many rows", entry(1, [2**62, 0, 2**62], 1)),
        ("behind the shard", entry(4, [16], 16, 1)),
        ("far behind the shard", entry(4, [16], 16, 2**63)),
        ("another checksum", entry(4, [16], 16, 0, b"x")),
        ("a resource", entry(20, [16], 16)),
    ],
)  # fmt: skip
def test_an_index_that_lies_gives_nothing(name: str, made: bytes) -> None:
    with pytest.raises(Refuse):
        written(given([(b"v", made)], DATA))


def test_what_is_told_again_and_again_has_a_bound() -> None:
    shard = bytes(1024**2)
    same = entry(4, [1024**2], 1024**2, 0)
    with pytest.raises(Refuse, match="would take"):
        written(given([(b"%06d" % number, same) for number in range(300)], shard))


def test_the_keys_of_slices_and_their_numbers() -> None:
    assert slice_key("a\0\u00ff", ()) == b"\0a\0\xff\xc3\xbf\0\x01\0"
    ordered = [-(2**62), -8193, -8192, -65, -64, -1, 0, 63, 64, 8191, 8192, 2**33, 2**62]
    keys = [slice_key("v", ((number, -1),)) for number in ordered]
    assert keys == sorted(keys) and len(set(keys)) == len(keys)
    assert slice_key("v", ((0, 64),)).endswith(b"\x80\xc0\x40") and slice_key("v", ((0, -1),)).endswith(b"\x80\x7f")
    assert named("a/.ATTRIBUTES/VARIABLE_VALUE") == "a" and named("a..b/.Sc") == "a..b..Sc"


@pytest.mark.parametrize(
    "names", [[], ["saved_model.pb"], ["a.index"], ["a.data-00000-of-00001"], [f"m.data-{number:05d}-of-00300" for number in range(MAX_WANTED + 1)] + ["m.index"]]
)  # fmt: skip
def test_a_folder_without_variables_or_with_too_many_files(names: list[str]) -> None:
    with pytest.raises(Refuse):
        wanted(names)


def test_tensorflow_itself_where_it_is_installed(tmp_path: Path) -> None:
    tf = pytest.importorskip("tensorflow", reason="tensorflow is not installed; what it read of the sample is checked above")
    model = tf.keras.Sequential([tf.keras.Input((8, 8, 3)), tf.keras.layers.Conv2D(4, 3), tf.keras.layers.BatchNormalization(),
                                 tf.keras.layers.Flatten(), tf.keras.layers.Dense(5)])  # fmt: skip
    model.compile("adam", "mse")
    model.fit(np.ones((4, 8, 8, 3)), np.ones((4, 5)), verbose=0)
    tf.saved_model.save(model, str(tmp_path / "m"))
    tf.train.Checkpoint(model=model, optimizer=model.optimizer).write(str(tmp_path / "m" / "other" / "ckpt"))
    for below in ("variables/variables", "other/ckpt"):
        shutil.rmtree(tmp_path / "one", ignore_errors=True)
        shutil.copytree((tmp_path / "m" / below).parent, tmp_path / "one")
        held = {path.name: path.read_bytes() for path in (tmp_path / "one").iterdir()}
        _, content = written(held)
        reader = tf.train.load_checkpoint(str(tmp_path / "m" / below))
        expected = {named(key): reader.get_tensor(key) for key in reader.get_variable_to_shape_map() if not key.startswith("_CHECK")}
        numbers = {name: array for name, array in expected.items() if not isinstance(array, bytes)}
        found = load(content)
        assert found.keys() == numbers.keys() and len(found) > 5
        for name, array in numbers.items():
            assert found[name].tobytes() == array.tobytes() and found[name].shape == array.shape
