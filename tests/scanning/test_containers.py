"""Containers as a whole: every member is scanned by its content, a name only tightens, and what a container runs is told."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
import zipfile
from typing import Any

import pytest
from archive_making import Block, Part, pax, tar_of, zip_of
from artifact_making import good_safetensors

from vouchgate.scanning.active_names import tightened
from vouchgate.scanning.scan import folder_format, scan, scan_folder
from vouchgate.scanning.verdict import Verdict

TEXT = b"A few plain words about the model.\n"
PICKLE = b"\x80\x04\x8c\x05posix\x8c\x06system\x93\x8c\x04true\x85R."
"""Would run `true`; nothing here loads it."""
CODE = b"import torch\n\n\nclass Handler:\n    def handle(self, data, context):\n        return data\n"


def zipped(**members: bytes) -> bytes:
    return zipped_of(members)


def zipped_of(members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return file.getvalue()


def tarred(members: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return file.getvalue()


def told(verdict: Verdict) -> set[tuple[str, str]]:
    return {(reason.rule, reason.member) for reason in verdict.reasons}


PACKERS: list[Any] = [
    pytest.param(zipped_of, "zip", id="zip"),
    pytest.param(lambda members: zipped_of(members, zipfile.ZIP_STORED), "zip", id="stored"),
    pytest.param(tarred, "tar", id="tar"),
]


@pytest.mark.parametrize(("pack", "kind"), PACKERS)
def test_archives_of_harmless_files_are_clean(pack: Any, kind: str) -> None:
    verdict = scan(pack({"model.safetensors": good_safetensors(), "docs/README.md": TEXT, "docs/none": b""}))
    assert (verdict.outcome, verdict.format, verdict.covered) == ("clean", kind, verdict.size)
    assert verdict.members["model.safetensors"] == "safetensors"
    assert verdict.members["docs/none"] == "empty"


@pytest.mark.parametrize(("pack", "kind"), PACKERS)
def test_one_bad_member_is_enough(pack: Any, kind: str) -> None:
    del kind
    for name in ("model.safetensors", "README.md", "a/b.jpg", "weights"):
        verdict = scan(pack({"good.safetensors": good_safetensors(), name: PICKLE}))
        assert verdict.outcome == "refused"
        assert {reason.member for reason in verdict.reasons} == {name}


@pytest.mark.parametrize(("pack", "kind"), PACKERS)
def test_what_is_unknown_inside_is_refused(pack: Any, kind: str) -> None:
    del kind
    assert told(scan(pack({"blob": b"\x07\xfe\xed\x00\x01" * 50}))) == {("scan:unknown-format", "blob")}


@pytest.mark.parametrize(("pack", "kind"), PACKERS)
def test_containers_in_containers(pack: Any, kind: str) -> None:
    del kind
    assert scan(pack({"inner.zip": zipped(text=TEXT), "inner.tar.gz": gzip.compress(tarred({"t": TEXT}))})).outcome == "clean"
    verdict = scan(pack({"inner.tar.gz": gzip.compress(tarred({"d/x.zip": zipped(x=PICKLE)}))}))
    assert {reason.member for reason in verdict.reasons} == {"inner.tar.gz!/unpacked!/d/x.zip!/x"}
    content = TEXT
    for _ in range(8):
        content = pack({"again": content})
    assert [reason.rule for reason in scan(content).reasons] == ["scan:too-deep"]


def test_a_zip_behind_other_bytes_is_two_things() -> None:
    verdict = scan(good_safetensors() + zipped(text=TEXT))
    assert (verdict.outcome, verdict.format) == ("refused", "polyglot")
    png = b"\x89PNG\r\n\x1a\n" + bytes(40)
    assert scan(png + zipped(text=TEXT)).outcome == "refused"
    assert scan(b"#!/bin/sh\necho\n" + zipped(text=TEXT)).outcome == "refused"


def test_a_zip_in_a_tar_s_first_name_and_the_other_way_round() -> None:
    assert scan(tar_of(Block(b"a.txt", TEXT)) + zipped(text=TEXT)).outcome == "refused"
    assert scan(tar_of(Block(b"a.zip", zipped(text=TEXT)))).outcome == "clean"
    assert scan(tar_of(Block(b"a.zip", zipped(text=PICKLE)))).outcome == "refused"
    assert scan(tar_of(Block(b"a.bin", zipped(text=TEXT) + b"junk"))).outcome == "refused"
    hidden = tar_of(Block(b"a.md", TEXT), pax((b"comment", zipped(text=PICKLE))), Block(b"b.md", TEXT))
    assert told(scan(hidden)) == {("tar:hidden-zip", "")}
    assert scan(zip_of(Part(b"a.tar", tar_of(Block(b"a", TEXT))))).outcome == "clean"


def test_a_program_in_a_zip_is_refused() -> None:
    assert ("zip:program", "") in told(scan(zipped_of({"__main__.py": b"print('hello')\n", "data.txt": TEXT})))


NAMES = [
    ("readme.txt", "text", None),
    ("a.py", "text", "review"),
    ("A.PY", "text", "review"),
    ("a.py.", "text", "review"),
    ("run.sh", "text", "review"),
    ("Makefile", "text", "review"),
    ("d/pyproject.toml", "text", "review"),
    ("d/__init__.py", "empty", None),
    ("d/other.py", "empty", "review"),
    ("path.pth", "text", "refused"),
    ("path.pth", "json", "refused"),
    ("model.pth", "pickle", None),
    ("model.pth", "torch-zip", None),
    ("a.py", "python-source", None),
    ("a.py", "empty", "review"),
    ("model.pt", "text", None),
    ("pth", "text", None),
]


@pytest.mark.parametrize(("name", "kind", "weight"), NAMES)
def test_a_name_only_tightens(name: str, kind: str, weight: str | None) -> None:
    found = tightened(name, kind)
    assert (found.weight if found else None) == weight


@pytest.mark.parametrize(("pack", "kind"), PACKERS)
def test_text_that_a_program_would_run_by_its_name(pack: Any, kind: str) -> None:
    del kind
    assert ("names:path-file", "site/evil.pth") in told(scan(pack({"site/evil.pth": TEXT})))
    verdict = scan(pack({"setup.cfg": TEXT}))
    assert (verdict.outcome, told(verdict)) == ("review", {("names:runs", "setup.cfg")})


def test_a_name_tightens_behind_thousands_of_members() -> None:
    members = {f"{place:05}.txt": b"x\n" for place in range(2_100)} | {"zz/evil.pth": TEXT}
    assert ("names:path-file", "zz/evil.pth") in told(scan(tarred(members)))


# WebDataset


JPEG_FREE = {"000.cls": b"3\n", "000.json": b'{"label": 3}\n', "001.cls": b"4\n", "001.json": b'{"label": 4}\n'}


def test_webdataset_shards() -> None:
    verdict = scan(tarred(JPEG_FREE))
    assert (verdict.outcome, verdict.format, verdict.facts["samples"]) == ("clean", "webdataset", 2)
    assert scan(tarred({"d/000.seg.json": b"[1]\n", "d/000.txt": TEXT})).format == "webdataset"
    assert scan(tarred({"d/notes.md": TEXT, "d/other.rst": TEXT})).format == "tar"
    assert scan(tarred({"000.txt": TEXT, "001.txt": TEXT, "000.json": b"{}"})).format == "tar"
    assert scan(tarred({"one.json": b"{}", "two.txt": TEXT})).format == "tar"


@pytest.mark.parametrize("field", ["pyd", "pkl", "pickle", "pth", "pt", "PYD", "x.pyd"])
def test_a_field_that_loaders_unpickle_must_be_a_pickle(field: str) -> None:
    assert scan(tarred(JPEG_FREE | {f"002.{field}": PICKLE})).outcome == "refused"
    verdict = scan(tarred(JPEG_FREE | {f"002.{field}": TEXT}))
    assert "scan:out-of-place" in {reason.rule for reason in verdict.reasons}


def test_a_damaged_picture_in_a_shard_is_a_fact_and_a_payload_behind_one_is_refused() -> None:
    damaged = b"\xff\xd8\xff" + b"x" * 100
    verdict = scan(tarred(JPEG_FREE | {"002.jpg": damaged, "002.cls": b"1"}))
    assert (verdict.outcome, verdict.facts["damaged_pictures"]) == ("clean", 1), verdict.reasons
    assert scan(tarred(JPEG_FREE | {"002.json": damaged, "002.cls": b"1"})).outcome == "refused"
    assert scan(tarred(JPEG_FREE | {"002.jpg": PICKLE, "002.cls": b"1"})).outcome == "refused"
    assert scan(tarred(JPEG_FREE | {"002.jpg": damaged + zipped(a=PICKLE), "002.cls": b"1"})).outcome == "refused"
    assert scan(damaged).outcome == "refused"


# TorchServe


def manifest(**more: Any) -> dict[str, Any]:
    model = {"modelName": "m", "modelVersion": "1.0", "serializedFile": "model.safetensors", "handler": "image_classifier"} | more
    return {"createdOn": "01/01/2024 10:00:00", "runtime": "python", "model": model, "archiverVersion": "0.9.0"}


def mar(document: Any = None, **more: bytes) -> dict[str, bytes]:
    raw = document if isinstance(document, bytes) else json.dumps(manifest() if document is None else document).encode()
    return {"MAR-INF/MANIFEST.json": raw, "model.safetensors": good_safetensors()} | {
        name.replace("__", "."): data for name, data in more.items()
    }


def test_a_model_archive_with_a_handler_of_torchserve_s_own_is_clean() -> None:
    for content in (zipped_of(mar()), tarred(mar())):
        verdict = scan(content)
        assert (verdict.outcome, verdict.format, verdict.facts["handler"]) == ("clean", "torchserve-mar", "image_classifier")
    verdict = scan(tarred({f"m/{name}": data for name, data in mar().items()}))
    assert (verdict.outcome, verdict.format) == ("clean", "torchserve-mar")
    verdict = scan(gzip.compress(tarred(mar())))
    assert verdict.members["unpacked"] == "torchserve-mar"


def test_code_in_a_model_archive_is_for_a_person() -> None:
    verdict = scan(zipped_of(mar(manifest(handler="handler.py"), handler__py=CODE)))
    assert verdict.outcome == "review"
    assert ("torchserve-mar:handler", "") in told(verdict)
    verdict = scan(
        zipped_of(mar(manifest(modelFile="net.py", requirementsFile="requirements.txt"), net__py=CODE, requirements__txt=b"torch\n"))
    )
    assert {"torchserve-mar:model-file", "torchserve-mar:requirements"} <= {rule for rule, _ in told(verdict)}
    assert verdict.outcome == "review"


def test_a_model_archive_with_a_payload_is_refused() -> None:
    verdict = scan(zipped_of(mar() | {"model.safetensors": PICKLE}))
    assert (verdict.outcome, {reason.member for reason in verdict.reasons}) == ("refused", {"model.safetensors"})


MANIFESTS = [
    ("manifest", b"[]"),
    ("manifest", {"model": {"modelName": 3}}),
    ("manifest", {"model": []}),
    ("manifest", manifest(extra="x")),
    ("manifest", manifest() | {"hook": "x"}),
    ("missing-file", manifest(serializedFile="other.pt")),
    ("missing-file", manifest(serializedFile="../../etc/passwd")),
    ("missing-file", manifest(modelFile="net.py")),
    ("handler", manifest(handler="os:system")),
    ("handler", manifest(handler="")),
    ("duplicate-key", b'{"model": {}, "model": {}}'),
    ("json", b"{"),
]


@pytest.mark.parametrize(("rule", "document"), MANIFESTS)
def test_manifests_that_are_refused(rule: str, document: Any) -> None:
    verdict = scan(zipped_of(mar(document)))
    assert (verdict.outcome, [reason.rule for reason in verdict.reasons]) == ("refused", [f"torchserve-mar:{rule}"])


def test_a_model_archive_as_a_folder() -> None:
    files = mar()
    plugin, claim = folder_format(frozenset(files))
    assert (plugin.name if plugin else "", claim.kind) == ("torchserve-mar", "torchserve-mar")
    assert scan_folder(files).outcome == "clean"
    assert scan_folder(mar(manifest(handler="handler.py"), handler__py=CODE)).outcome == "review"
    assert scan_folder(mar(manifest(handler="gone.py"))).outcome == "refused"


# NeMo


CONFIG = b"""target: nemo.collections.asr.models.ctc_bpe_models.EncDecCTCModelBPE
nemo_version: 1.20.0
preprocessor:
  _target_: nemo.collections.asr.modules.AudioToMelSpectrogramPreprocessor
  sample_rate: 16000
optim:
  name: adamw
  sched: {name: CosineAnnealing, target: 0.1}
loss:
  _target_: torch.nn.CrossEntropyLoss
"""


def nemo(config: bytes = CONFIG, **more: bytes) -> dict[str, bytes]:
    return {"./model_config.yaml": config, "./model_weights.ckpt": good_safetensors()} | more


def test_a_nemo_archive_of_its_own_classes_is_clean() -> None:
    verdict = scan(tarred(nemo()))
    assert (verdict.outcome, verdict.format) == ("clean", "nemo"), verdict.reasons
    verdict = scan(gzip.compress(tarred(nemo(**{"vocab.txt": TEXT}))))
    assert (verdict.outcome, verdict.members["unpacked"]) == ("clean", "nemo")


CALLS = [
    b"_target_: os.system\n",
    b"_target_: builtins.eval\n",
    b"_target_: nemo.collections.asr.models.os.system\n",
    b"_target_: nemo.collections.common.parts.patch_utils.os.System\n",
    b"_target_: nemo.utils.exp_manager.exp_manager\n",
    b"_target_: nemo.collections.asr.models._private.Model\n",
    b"_target_: nemo.collections.asr.helpers.run_it\n",
    b"_target_: nemo.collections..asr.Model\n",
    b"_target_: [os.system]\n",
    b"_target_: ''\n",
    b"target: subprocess.Popen\n",
    b"a: {b: [{c: {_target_: pickle.loads}}]}\n",
    b"x: &x {_target_: shutil.rmtree}\ny: *x\n",
    b'"_target_": os.system\n',
    b"? _target_\n: os.system\n",
    b'"\\x5ftarget_": os.system\n',
]


@pytest.mark.parametrize("config", CALLS)
def test_names_that_a_configuration_would_call(config: bytes) -> None:
    verdict = scan(tarred(nemo(config)))
    assert (verdict.outcome, {reason.rule for reason in verdict.reasons}) == ("refused", {"nemo:target"})


CONFIGS = [
    b"!!python/object/apply:os.system [id]\n",
    b"a: 1\na: 2\n",
    b"- a\n",
    b"a: [\n",
    b"a: 1\n---\nb: 2\n",
    b"\xff\xfe",
    b"",
    b"a: &a [x, x]\n" + b"".join(b"%c: &%c [*%c, *%c, *%c, *%c, *%c, *%c, *%c]\n" % (n + 1, n + 1, *[n] * 7) for n in range(97, 110)),
]


@pytest.mark.parametrize("config", CONFIGS, ids=range(len(CONFIGS)))
def test_configurations_that_are_refused(config: bytes) -> None:
    verdict = scan(tarred(nemo(config)))
    assert verdict.outcome == "refused"
    assert all(reason.rule.startswith("nemo:") for reason in verdict.reasons)


def test_a_nemo_checkpoint_must_be_one() -> None:
    assert "scan:out-of-place" in {rule for rule, _ in told(scan(tarred(nemo() | {"./model_weights.ckpt": TEXT})))}
    assert scan(tarred(nemo() | {"./model_weights.ckpt": PICKLE})).outcome == "refused"
    assert scan(tarred(nemo(**{"hook.py": CODE}))).outcome == "review"


def test_what_tells_an_archive_s_kind_cannot_hide_behind_thousands_of_members() -> None:
    """A schema read as plain JSON would say nothing of what skops builds from it."""
    many = {f"{place:05}.txt": b"x" for place in range(5_000)}
    evil = json.dumps({"__class__": "system", "__module__": "os", "__loader__": "FunctionNode", "protocol": 2})
    verdict = scan(zipped_of({**many, "schema.json": evil.encode()}, zipfile.ZIP_STORED))
    assert (verdict.outcome, verdict.format) == ("refused", "skops")
    verdict = scan(zipped_of({**many, **mar(manifest(handler="os:system"))}, zipfile.ZIP_STORED))
    assert (verdict.outcome, verdict.format) == ("refused", "torchserve-mar")
