"""XGBoost, LightGBM, CatBoost, Arrow, Parquet, MessagePack, OpenVINO, MLflow, images: what the libraries wrote is clean, and each thing that is
broken in it is seen. The samples are the libraries' own (samples/README.md)."""

from __future__ import annotations

import json
import random
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vouchgate.scanning.formats import (
    arrow,
    catboost,
    csv,
    image,
    lightgbm,
    mlflow,
    msgpack,
    openvino,
    parquet,
    pmml,
    python_source,
    text,
    xgboost,
    xml,
    yaml,
)
from vouchgate.scanning.formats import json as json_format
from vouchgate.scanning.scan import scan, scan_folder
from vouchgate.scanning.sniff import Format
from vouchgate.scanning.verdict import Verdict

SAMPLES = Path(__file__).parent / "samples"
MODULES = (
    arrow,
    catboost,
    csv,
    image,
    json_format,
    lightgbm,
    mlflow,
    msgpack,
    openvino,
    parquet,
    pmml,
    python_source,
    text,
    xgboost,
    xml,
    yaml,
)
FORMATS = tuple(
    Format(
        name=module.NAME,
        recognise=module.recognise,
        read=module.read,
        recognise_folder=getattr(module, "recognise_folder", None),
        read_folder=getattr(module, "read_folder", None),
        raw_files=getattr(module, "raw_files", None),
    )
    for module in MODULES
)
CLEAN = {
    "table.parquet": "parquet",
    "table-15.parquet": "parquet",
    "table.feather": "arrow",
    "table.arrows": "arrow",
    "trees.json": "xgboost",
    "trees.ubj": "xgboost",
    "trees-1.6.xgboost": "xgboost",
    "trees.lightgbm.txt": "lightgbm",
    "trees.cbm": "catboost",
    "arrays.msgpack": "msgpack",
    "graph.xml": "openvino",
    "tree.pmml": "pmml",
    "MLmodel": "mlflow",
    "picture.png": "image",
    "picture.jpg": "image",
    "picture.gif": "image",
    "picture.webp": "image",
    "picture.bmp": "image",
}


def sample(name: str) -> bytes:
    return (SAMPLES / name).read_bytes()


def verdict(content: bytes) -> Verdict:
    return scan(content, formats=FORMATS)


@pytest.mark.parametrize("name", CLEAN)
def test_what_a_library_wrote_is_clean(name: str) -> None:
    found = verdict(sample(name))
    assert (found.format, found.outcome, found.reasons) == (CLEAN[name], "clean", ())


@pytest.mark.parametrize("name", [name for name in CLEAN if name not in ("trees.json", "graph.xml", "tree.pmml", "MLmodel")])
def test_nothing_may_stand_behind_it(name: str) -> None:
    assert verdict(sample(name) + b"\x80\x04\x95junk").outcome == "refused"


def test_a_copy_of_a_chunks_metadata_says_what_the_footer_says() -> None:
    content = sample("table-15.parquet")
    page, copied, _ = (place for place in range(len(content)) if content.startswith(b"\x18\x01x", place))
    changed = content[:copied] + b"\x18\x01w" + content[copied + 3 :]
    assert page < copied
    assert [reason.rule for reason in verdict(changed).reasons] in (["parquet:gap"], ["parquet:overlap"])


@pytest.mark.parametrize("name", CLEAN)
def test_no_part_of_it_is_clean_and_no_change_a_fault(name: str) -> None:
    """A text's lines can be left out and be a text still; what is cut inside its structure is never the whole."""
    content, chance = sample(name), random.Random(7)
    whole = content.index(b"end of trees") if name == "trees.lightgbm.txt" else len(content) - 1
    for _ in range(25):
        cut = verdict(content[: chance.randrange(1, whole)])
        assert cut.format != CLEAN[name] or cut.outcome != "clean" or name == "MLmodel"
        assert "scan:fault" not in [reason.rule for reason in cut.reasons]
    for _ in range(60):
        changed = bytearray(content)
        for _ in range(chance.randrange(1, 4)):
            changed[chance.randrange(len(changed))] = chance.choice((0, 1, 0x7F, 0x80, 0xFF, chance.randrange(256)))
        assert "scan:fault" not in [reason.rule for reason in verdict(bytes(changed)).reasons]


@pytest.mark.parametrize("name", ["extension.parquet", "extension.feather"])
def test_an_extension_type_that_is_unpickled_is_refused(name: str) -> None:
    assert [reason.rule.partition(":")[2] for reason in verdict(sample(name)).reasons] == ["pickled-extension"]


Change = Callable[[dict[str, Any]], Any]


def model(value: dict[str, Any]) -> dict[str, Any]:
    inner: dict[str, Any] = value["learner"]["gradient_booster"]["model"]
    return inner


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        (lambda value: model(value)["trees"][0].update(left_children=[0, -1, -1]), "tree"),
        (lambda value: model(value)["trees"][0].update(left_children=[1, 0, -1]), "tree"),
        (lambda value: model(value)["trees"][0].update(right_children=[7, -1, -1]), "tree"),
        (lambda value: model(value)["trees"][0].update(split_indices=[99, 0, 0]), "tree"),
        (lambda value: model(value)["trees"][0].update(split_indices=[0]), "array"),
        (lambda value: model(value)["trees"][0].update(split_conditions=["x", 0, 0]), "array"),
        (lambda value: model(value)["trees"][0]["tree_param"].update(num_nodes="-1"), "parameter"),
        (lambda value: model(value).update(trees=[]), "trees"),
        (lambda value: value["learner"]["gradient_booster"].update(name="python"), "booster"),
        (lambda value: value["learner"].update(attributes={"a": 1}), "attributes"),
        (lambda value: value["learner"].update(objective=None), "objective"),
        (lambda value: value.update(version="3"), "version"),
        (lambda value: value["learner"].update(extra={"py/object": "os.system"}), "acting-key"),
    ],
)
def test_a_tree_is_a_tree(change: Change, rule: str) -> None:
    value = json.loads(sample("trees.json"))
    change(value)
    found = verdict(json.dumps(value).encode())
    assert [reason.rule for reason in found.reasons] == [f"xgboost:{rule}"]


def ubjson(value: Any) -> bytes:
    """A writer of its own, for what no library would write."""
    if isinstance(value, dict):
        return b"{" + b"".join(b"U" + bytes([len(key)]) + key.encode() + ubjson(item) for key, item in value.items()) + b"}"
    if isinstance(value, list):
        return b"[" + b"".join(map(ubjson, value)) + b"]"
    if isinstance(value, str):
        return b"SL" + struct.pack(">q", len(value.encode())) + value.encode()
    if isinstance(value, float):
        return b"D" + struct.pack(">d", value)
    return b"L" + struct.pack(">q", value)


def test_ubjson_is_held_to_the_same_rules() -> None:
    value = json.loads(sample("trees.json"))
    assert verdict(ubjson(value)).outcome == "clean"
    model(value)["trees"][0]["left_children"] = [0, -1, -1]
    assert verdict(ubjson(value)).reasons[0].rule == "xgboost:tree"


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        (b"{U\x07learner[$L#L\x7f\xff\xff\xff\xff\xff\xff\xff}", "ubjson-truncated"),
        (b"{U\x07learner[$Z#L\x7f\xff\xff\xff\xff\xff\xff\xff}", "ubjson-type"),
        (b"{U\x07learner[#L\xff\xff\xff\xff\xff\xff\xff\xff}", "ubjson-count"),
        (b"{U\x07learner[#L\x00\xff\xff\xff\xff\xff\xff\xff}", "ubjson-count"),
        (b"{U\x07learner" + b"[" * 100, "ubjson-depth"),
        (b"{U\x07learnerU\x01U\x07learnerU\x01}", "ubjson-duplicate-key"),
        (b"{U\x07learnerSU\x09xxx}", "ubjson-truncated"),
        (b"{U\x07learnerQ}    ", "ubjson-marker"),
    ],
)
def test_ubjson_trusts_no_length(content: bytes, rule: str) -> None:
    assert verdict(content).reasons[0].rule == f"xgboost:{rule}"


@pytest.mark.parametrize(
    ("old", "new", "rule"),
    [
        ("left_child=2 -2 -1", "left_child=0 -2 -1", "tree"),
        ("left_child=2 -2 -1", "left_child=2 -9 -1", "tree"),
        ("split_feature=0 1 0", "split_feature=0 9 0", "tree"),
        ("num_leaves=4", "num_leaves=5", "array"),
        ("tree_sizes=564", "tree_sizes=563", "tree-sizes"),
        ("version=v4", "version=v4\nrun=x", "line"),
        ("end of parameters", "end of parameters\nimport os", "line"),
        ("leaf_count=", "code=", "line"),
        ("end of parameters\n", "", "line"),
        ('pandas_categorical:[["u"', 'pandas_categorical:[["u"]', "json"),
    ],
)
def test_lightgbm_has_one_grammar(old: str, new: str, rule: str) -> None:
    content = sample("trees.lightgbm.txt").decode()
    changed = content.replace(old, new, 1)
    assert changed != content
    if old.startswith(("left", "split_f", "num_leaves", "leaf_count")):
        grown = 564 + len(new) - len(old)
        changed = changed.replace("tree_sizes=564", f"tree_sizes={grown}")
    assert verdict(changed.encode()).reasons[0].rule == f"lightgbm:{rule}"


def test_a_raw_model_reaches_no_node_twice() -> None:
    content = bytearray(sample("trees-1.6.xgboost"))
    place = content.index(b"gbtree") + 6 + 160 + 148
    content[place + 4 : place + 8] = struct.pack("<i", 0)
    assert verdict(bytes(content)).reasons[0].rule == "xgboost:binary-tree"


def test_msgpack_unpickles_nothing() -> None:
    def packed(*pairs: tuple[bytes, bytes]) -> bytes:
        texts = b"".join(bytes([0xA0 | len(key)]) + key + value for key, value in pairs)
        return bytes([0x80 | len(pairs)]) + texts

    assert verdict(packed((b"nd", b"\xc3"), (b"kind", b"\xa1O"), (b"data", b"\xc4\x01."))).reasons[0].rule == "msgpack:pickled-array"
    assert verdict(packed((b"nd", b"\xc3"), (b"type", b"\xa3<f4"), (b"kind", b"\xa0"))).outcome == "clean"
    assert verdict(packed((b"py/object", b"\xa9os.system"))).reasons[0].rule == "msgpack:acting-key"
    assert verdict(packed((b"aa", b"\x01"), (b"aa", b"\x01"))).reasons[0].rule == "msgpack:duplicate-key"
    assert verdict(packed((b"aa", b"\xd4\x2a\x00"))).outcome == "review"
    assert verdict(packed((b"aa", b"\xdd\xff\xff\xff\xff"))).reasons[0].rule == "msgpack:count"
    assert verdict(packed((b"aa", b"\x91" * 200 + b"\x01"))).reasons[0].rule == "msgpack:bounds"


def graph_folder(**more: bytes) -> dict[str, bytes]:
    return {"graph.xml": sample("graph.xml"), "graph.bin": sample("graph.bin"), **more}


def test_constants_explain_their_file() -> None:
    assert scan_folder(graph_folder(), formats=FORMATS).outcome == "clean"
    assert scan_folder(graph_folder(**{"graph.bin": sample("graph.bin") + b"x"}), formats=FORMATS).outcome == "refused"
    assert scan_folder(graph_folder(**{"graph.bin": sample("graph.bin")[:-1]}), formats=FORMATS).outcome == "refused"
    assert scan_folder(graph_folder(**{"other.bin": b"\x01\x02"}), formats=FORMATS).outcome == "refused"
    assert scan_folder(graph_folder(**{"graph.bin": b"#!/bin/sh\n" + sample("graph.bin")[10:]}), formats=FORMATS).outcome != "incomplete"


@pytest.mark.parametrize(
    ("old", "new", "rule"),
    [
        (b'version="opset1"', b'version="extension"', "custom-operation"),
        (b'<data element_type="f16"', b'<data library="x.so" element_type="f16"', "file"),
        (b'size="216"', b'size="217"', "constant"),
        (b"<layers>", b"<layers><script/>", "acts"),
    ],
)
def test_a_graph_brings_no_code(old: bytes, new: bytes, rule: str) -> None:
    content = sample("graph.xml").replace(old, new)
    assert verdict(content).reasons[0].rule == f"openvino:{rule}"


def logged(**more: str) -> dict[str, bytes]:
    files = {"MLmodel": sample("MLmodel").decode(), "requirements.txt": "mlflow==3.1\nxgboost>=2 ; python_version > '3.8'\n", **more}
    files.setdefault("conda.yaml", "channels:\n- conda-forge\ndependencies:\n- python=3.11\n- pip:\n  - xgboost\n")
    files.setdefault("python_env.yaml", "python: 3.11.7\nbuild_dependencies:\n- pip==23.2.1\ndependencies:\n- -r requirements.txt\n")
    return {**{name: content.encode() for name, content in files.items()}, "model.ubj": sample("trees.ubj")}


def test_a_logged_model_is_clean() -> None:
    found = scan_folder(logged(), formats=FORMATS)
    assert (found.format, found.outcome, found.reasons) == ("mlflow", "clean", ())


@pytest.mark.parametrize(
    ("old", "new", "rule"),
    [
        ("loader_module: mlflow.xgboost", "loader_module: os", "loader"),
        ("loader_module: mlflow.xgboost", "loader_module: mlflow.xgboost.x", "loader"),
        ("model_class: xgboost.sklearn.XGBClassifier", "model_class: os.system", "class"),
        ("model_class: xgboost.sklearn.XGBClassifier", "model_class: xgboost.os.system", "class"),
        ("data: model.ubj", "data: ../model.ubj", "path"),
        ("data: model.ubj", "data: /etc/passwd", "path"),
        ("data: model.ubj", "data: s3://x/y", "path"),
        ("data: model.ubj", "data: missing.ubj", "path"),
    ],
)
def test_a_manifest_is_a_claim(old: str, new: str, rule: str) -> None:
    found = scan_folder(logged(MLmodel=sample("MLmodel").decode().replace(old, new)), formats=FORMATS)
    assert found.outcome == "refused"
    assert f"mlflow:{rule}" in [reason.rule for reason in found.reasons]


def test_a_manifest_that_brings_code_is_for_a_person() -> None:
    content = sample("MLmodel").decode()
    assert scan_folder(logged(MLmodel=content.replace("code: null", "code: code")), formats=FORMATS).outcome == "review"
    assert scan_folder(logged(MLmodel=content.replace("mlflow.xgboost", "mlflow.pyfunc.model")), formats=FORMATS).outcome == "review"
    assert scan_folder(logged(MLmodel=content.replace("  xgboost:", "  mine:\n    a: b\n  xgboost:")), formats=FORMATS).outcome == "review"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("requirements.txt", "git+https://x.invalid/y\n"),
        ("requirements.txt", "--index-url http://x.invalid\n"),
        ("requirements.txt", "x @ https://x.invalid/y.whl\n"),
        ("requirements.txt", "./local\n"),
        ("conda.yaml", "channels:\n- http://x.invalid\ndependencies: []\n"),
        ("conda.yaml", "dependencies:\n- pip:\n  - -e .\n"),
        ("python_env.yaml", "dependencies:\n- --extra-index-url x\n"),
        ("data/pickle_module_info.txt", "os\n"),
    ],
)
def test_nothing_is_installed_from_where_the_artifact_says(name: str, content: str) -> None:
    assert scan_folder(logged(**{name: content}), formats=FORMATS).outcome == "refused"


def test_a_picture_of_too_many_pixels_is_a_bomb() -> None:
    content = bytearray(sample("picture.gif"))
    content[6:10] = b"\xff\xff\xff\xff"
    assert verdict(bytes(content)).reasons[0].rule == "image:pixels"


def test_a_picture_holds_its_checksums() -> None:
    content = bytearray(sample("picture.png"))
    content[60] ^= 1
    assert verdict(bytes(content)).reasons[0].rule == "image:crc"
    assert scan(bytes(content), formats=FORMATS, deep=False).outcome == "incomplete"


def test_zeros_may_stand_behind_a_jpeg() -> None:
    assert verdict(sample("picture.jpg") + bytes(64)).outcome == "clean"
    assert verdict(sample("picture.jpg") + sample("picture.jpg")).reasons[0].rule == "image:trailing"
