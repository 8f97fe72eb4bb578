"""SavedModel folders, TensorFlow checkpoints and SentencePiece models: what the libraries wrote is clean, what touches files or lies is not."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from vouchgate.scanning.scan import scan, scan_folder
from vouchgate.scanning.settings import DEFAULTS
from vouchgate.scanning.tensor_bundle import content, crc32c, open_bundle, shard_name

SAMPLES = Path(__file__).parent / "samples"
ROOT = SAMPLES / "saved_model"
INDEX, SHARD = "variables/variables.index", "variables/variables.data-00000-of-00001"


def model() -> dict[str, bytes]:
    return {path.relative_to(ROOT).as_posix(): path.read_bytes() for path in ROOT.rglob("*") if path.is_file()}


def varint(value: int) -> bytes:
    found = b""
    while value > 127:
        found, value = found + bytes([value & 127 | 128]), value >> 7
    return found + bytes([value])


def block(number: int, *parts: bytes) -> bytes:
    body = b"".join(parts)
    return varint(number << 3 | 2) + varint(len(body)) + body


def keyed(number: int, key: str, value: bytes) -> bytes:
    return block(number, block(1, key.encode()), block(2, value))


def node(name: str, operator: str, *inputs: str, calls: str = "", text: str = "", number: int = 1) -> bytes:
    attributes = keyed(5, "f", block(10, block(1, calls.encode()))) if calls else b""
    attributes += keyed(5, "value", block(8, b"\x08\x07", block(8, text.encode()))) if text else b""
    return block(number, block(1, name.encode()), block(2, operator.encode()), *(block(3, one.encode()) for one in inputs), attributes)


def function(name: str, arguments: list[str], *nodes: bytes) -> bytes:
    return block(1, block(1, block(1, name.encode()), *(block(2, block(1, one.encode())) for one in arguments)), *nodes)


def saved(nodes: list[bytes], *functions: bytes, extra: bytes = b"") -> bytes:
    return b"\x08\x01" + block(2, block(2, *nodes, block(2, *functions)), extra)


ASSET = block(6, block(1, block(1, b"c:0")), block(2, b"words.txt"))
PATH = node("c", "Const", text="/etc/passwd")
SAVE = function("save", ["p"], node("s", "SaveV2", "p", number=3))
FILL = node("t", "InitializeTableFromTextFileV2", "h", "c")
OUTPUT = block(5, block(1, b"serving_default"), block(2, keyed(2, "y", block(1, b"y:0"))))
BOUND = block(7, block(1), block(1, block(5)), keyed(2, "save", block(2, b"\x00")))


def test_a_saved_model_is_clean_and_its_variables_are_found() -> None:
    verdict = scan_folder(model())
    assert (verdict.format, verdict.outcome, verdict.reasons) == ("tf-savedmodel", "clean", ())
    bundle = open_bundle(memoryview(model()[INDEX]), DEFAULTS, "t")
    found = {one.name.split("/")[0]: content(one, [memoryview(model()[SHARD])]) for one in bundle.tensors}
    assert bytes(found["weights"]) == struct.pack("<12f", *range(12))
    assert bytes(found["half"]) == b"\x80\x3f" * 4
    assert bytes(found["words"])[:3] == b"\1\2\0"
    assert bytes(found["words"]).endswith(b"abc")
    assert {one.name.split("/")[0]: (one.shape, one.numpy) for one in bundle.tensors}["half"] == ((4,), "bfloat16")


def test_the_checksum_is_castagnolis() -> None:
    assert crc32c(b"123456789") == 0xE3069283
    assert shard_name("a/b", 1, 12) == "a/b.data-00001-of-00012"


@pytest.mark.parametrize("name", sorted(model().keys() - {"assets/vocabulary.txt"}))
def test_bytes_behind_a_file_or_missing_from_it(name: str) -> None:
    assert scan_folder(model() | {name: model()[name] + b"\x01"}).outcome == "refused"
    assert scan_folder(model() | {name: model()[name][:-1]}).outcome == "refused"


@pytest.mark.parametrize("place", range(0, 306, 5))
def test_a_flipped_byte_of_the_index_is_seen(place: int) -> None:
    changed = bytearray(model()[INDEX])
    changed[place] ^= 1
    assert scan_folder(model() | {INDEX: bytes(changed)}).outcome != "clean"


def test_a_changed_tensor_a_missing_shard_and_a_stray_one() -> None:
    changed = bytearray(model()[SHARD])
    changed[0] ^= 1
    assert scan_folder(model() | {SHARD: bytes(changed)}).outcome == "refused"
    assert scan_folder({name: data for name, data in model().items() if name != SHARD}).outcome == "incomplete"
    assert scan_folder(model() | {"variables/variables.data-00001-of-00002": b"\1\2\3\4"}).outcome == "refused"
    assert scan_folder({name: data for name, data in model().items() if name != INDEX}).outcome == "refused"
    assert scan_folder({name: data for name, data in model().items() if name != "assets/vocabulary.txt"}).outcome == "incomplete"


def test_a_checkpoint_on_its_own() -> None:
    files = {"model.ckpt.index": model()[INDEX], "model.ckpt.data-00000-of-00001": model()[SHARD], "checkpoint": b'path: "model.ckpt"\n'}
    assert (scan_folder(files).format, scan_folder(files).outcome) == ("tensor-bundle", "clean")
    assert scan_folder(files | {"other.data-00000-of-00001": b"\xff\x00\x9f\1"}).outcome == "refused"


@pytest.mark.parametrize(
    ("content", "outcome"),
    [
        (saved([node("p", "Placeholder"), node("s", "StatefulPartitionedCall", "p", calls="save")], SAVE), "clean"),
        (saved([PATH, node("s", "StatefulPartitionedCall", "c", calls="save")], SAVE), "refused"),
        (saved([PATH, node("b", "Const"), node("s", "If", "b", "c", calls="save")], SAVE), "refused"),
        (saved([node("p", "Placeholder"), node("s", "While", "p", calls="save")], SAVE), "refused"),
        (saved([PATH, node("l", "StringLower", "c"), node("s", "SaveV2", "l")]), "refused"),
        (saved([node("g", "PartitionedCall", calls="give"), node("s", "SaveV2", "g")], function("give", [])), "refused"),
        (saved([PATH, node("p", "Placeholder"), node("j", "StringJoin", "c", "p"), node("s", "SaveV2", "j")]), "refused"),
        (saved([node("p", "Placeholder"), node("c", "Const", text="/../x"), node("j", "StringJoin", "p", "c"), node("s", "SaveV2", "j")]), "refused"),
        (saved([node("p", "Placeholder"), node("y", "StatefulPartitionedCall", "p", calls="save")], SAVE, extra=OUTPUT), "refused"),
        (saved([], SAVE, extra=BOUND), "refused"),
        (saved([PATH, FILL], extra=ASSET), "clean"),
        (saved([PATH, FILL]), "refused"),
        (saved([PATH, FILL, node("y", "Identity", "x", "^t")], extra=ASSET + OUTPUT), "refused"),
        (saved([PATH, node("s", "SaveV2", "c")], extra=ASSET), "refused"),
        (saved([node("i", "ImmutableConst")]), "refused"),
        (saved([node("p", "PartitionedCall")]), "refused"),
        (saved([node("a", "Const"), node("a", "Const")]), "refused"),
        (saved([block(1, block(1, b"p"), block(2, b"PrintV2"), keyed(5, "output_stream", block(2, b"file:///x")))]), "refused"),
        (saved([block(1, block(1, b"p"), block(2, b"PrintV2"), keyed(5, "output_stream", block(2, b"stderr")))]), "clean"),
        (saved([node("a", "Const")], extra=block(99, b"x")), "refused"),
    ],
)  # fmt: skip
def test_what_a_graph_may_do_with_files(content: bytes, outcome: str) -> None:
    assert scan(content).outcome == outcome


def test_names_that_come_a_long_way_are_bounded() -> None:
    chain = [node(f"i{place}", "Identity", f"i{place - 1}" if place else "p") for place in range(4000)]
    uses = [node(f"s{place}", "SaveV2", "i3999") for place in range(300)]
    assert [one.rule for one in scan(saved([node("p", "Placeholder"), *chain, *uses])).reasons] == ["tf-savedmodel:too-complex"]


def described(text: str) -> dict[str, bytes]:
    held = b"\x10\x00" + block(4, b"_tf_keras_layer") + block(5, text.encode())
    return {"saved_model.pb": saved([node("a", "Const")]), "keras_metadata.pb": block(1, held)}


@pytest.mark.parametrize(
    ("text", "outcome"),
    [
        ('{"class_name": "Dense", "config": {"units": 3}}', "clean"),
        ('{"class_name": "Mine", "config": {"layer": {"class_name": "Own>Other", "config": {}}}}', "review"),
        ('{"class_name": "Lambda", "config": {"function": ["4wEA"]}}', "refused"),
        ('{"class_name": "Mine>Lambda", "config": {}}', "refused"),
        ('{"class_name": "Mine", "module": "os", "config": {}}', "refused"),
        ('{"class_name": "TensorFlowOpLayer", "config": {}}', "refused"),
        ('{"class_name": "Dense", "config": {}, "config": {}}', "refused"),
        ("[]", "refused"),
    ],
)
def test_the_metadata_of_keras(text: str, outcome: str) -> None:
    assert scan_folder(described(text)).outcome == outcome
    older = block(7, block(1, block(4, block(1, b"_tf_keras_layer"), block(3, text.encode()))))
    assert scan(saved([node("a", "Const")], extra=older)).outcome == outcome


@pytest.mark.parametrize("asset", ["../x", "/etc/passwd", "a\\b", "a/../b"])
def test_assets_stay_in_their_folder(asset: str) -> None:
    extra = block(6, block(1, block(1, b"c:0")), block(2, asset.encode()))
    assert scan_folder({"saved_model.pb": saved([PATH, FILL], extra=extra)}).outcome == "refused"


PIECES = (SAMPLES / "pieces.model").read_bytes()


def characters(units: list[int], texts: bytes = b"a\0", size: int | None = None) -> bytes:
    raw = struct.pack(f"<I{len(units)}I", len(units) * 4 if size is None else size, *units) + texts
    return block(1, block(1, b"x"), b"\x15" + bytes(4)) + block(3, block(2, raw))


EMPTY = [0] * 256


@pytest.mark.parametrize(
    ("content", "outcome"),
    [
        (PIECES, "clean"),
        (characters(EMPTY), "clean"),
        (characters([1 << 10 | 1 << 9, *EMPTY[1:]]), "refused"),
        (characters([1 << 8 | 1 << 10, 1 << 31 | 2, *EMPTY[2:]]), "refused"),
        (characters([1 << 8 | 1 << 10, 1 << 31 | 1, *EMPTY[2:]]), "clean"),
        (characters(EMPTY, size=2048), "refused"),
        (characters(EMPTY, texts=b"a"), "refused"),
        (PIECES + PIECES[:11], "refused"),
        (PIECES + block(200, b"x"), "refused"),
        (PIECES[:-1], "refused"),
        (PIECES + block(1, block(1, b"<unk>"), b"\x15" + bytes(4)), "refused"),
    ],
)
def test_sentencepiece(content: bytes, outcome: str) -> None:
    assert (scan(content).format, scan(content).outcome) == ("sentencepiece", outcome)
