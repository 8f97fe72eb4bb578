"""A model is described by what the real scanner saw, and a description is held to the files again."""

from contextlib import closing

import pytest
from bom_world import SITE, environment, install, model, venv

from vouchgate.evidence.bom.document import write_bom
from vouchgate.evidence.bom.read import read_bom
from vouchgate.flows import describe_artifact
from vouchgate.flows.describe_artifact import Scanner, compare_environment, compare_files, describe
from vouchgate.flows.measure import Measuring, measure
from vouchgate.ports.artifact_files import Place
from vouchgate.ports.scanner import FolderFile
from vouchgate.ports.scanner import Scanner as Process
from vouchgate.vocabulary.errors import InvalidInput, Unavailable

PICKLE = b"cos\nsystem\n(S'true'\ntR."


@pytest.fixture(scope="module")
def scanner():
    with closing(Process()) as process:
        yield Scanner(process, FolderFile)


@pytest.fixture
def made(tmp_path):
    return model(tmp_path / "model")


def described(path, scanner, **how):
    with closing(Place(str(path))) as place:
        return describe(place, scanner, **how)


def document(found, python=None):
    return read_bom(write_bom(found, python, spec="1.7", timestamp="2026-01-31T12:00:00.000Z", version="1"))


def differences(bom, path):
    with closing(Place(str(path))) as place:
        return {(one.kind, one.name) for one in compare_files(bom, measure(place, Measuring(tensors=False)), path.name)}


def test_a_folder_that_is_one_model(made, scanner):
    found = described(made, scanner)
    assert (found.scan.outcome, found.scan.format, found.folder, found.name) == ("clean", "hugging-face", True, "model")
    (weights,) = found.weights
    assert (weights.tensors, weights.parameters, weights.dtypes) == (2, 25, {"F32": 1, "F16": 1})
    assert found.claims.license == "MIT" and found.claims.architectures == ("BertModel",)
    assert {file.path: file.format for file in found.files}["model.safetensors"] == "safetensors"


def test_a_single_file(made, scanner):
    found = described(made / "model.safetensors", scanner, name="other", release="3")
    assert (found.folder, found.name, found.release, found.weights[0].parameters) == (False, "other", "3", 25)
    assert found.files[0].path == "model.safetensors" and found.digest == f"sha256:{found.files[0].sha256}"


def test_a_folder_of_several_artifacts_is_as_good_as_its_worst(tmp_path, scanner):
    folder = tmp_path / "several"
    model(folder / "a")
    (folder / "b.pkl").write_bytes(PICKLE)
    found = described(folder, scanner)
    assert found.scan.outcome == "refused" and any("b" in reason or "pickle" in reason for reason in found.scan.reasons)
    assert found.weights[0].path == "a/model.safetensors"


def test_what_acts_is_described_and_never_run(tmp_path, scanner):
    canary = tmp_path / "canary"
    (tmp_path / "m.pkl").write_bytes(b"cos\nsystem\n(S'touch " + str(canary).encode() + b"'\ntR.")
    found = described(tmp_path / "m.pkl", scanner)
    assert found.scan.outcome == "refused" and not canary.exists()
    assert document(found).subject.said("scan:verdict") == "refused"


def test_the_card_of_a_model_claims_nothing_that_the_scan_saw(made, scanner):
    (made / "README.md").write_bytes(b"---\nlicense: &x mit\n---\n")
    found = described(made, scanner)
    assert found.claims.license == "" and "README.md claims nothing" in found.claims.notes[0]


@pytest.mark.parametrize("link", ["outside", "model.safetensors"])
def test_what_cannot_be_hashed_is_not_described(made, scanner, link):
    (made / "link").symlink_to(link)
    with pytest.raises(InvalidInput):
        described(made, scanner)


@pytest.mark.parametrize("when", ["scan", "claims"])
def test_what_changes_meanwhile_is_not_described(made, scanner, monkeypatch, when):
    name = {"scan": "artifacts", "claims": "_claimed"}[when]
    real = getattr(describe_artifact, name)

    def change(*arguments):
        (made / "config.json").write_text('{"architectures": ["GptModel"], "model_type": "gpt2"}')
        return real(*arguments)

    monkeypatch.setattr(describe_artifact, name, change)
    with pytest.raises(Unavailable, match="changed while"):
        described(made, scanner)


def test_files_that_are_as_described(made, scanner):
    bom = document(described(made, scanner))
    assert not bom.faults and differences(bom, made) == set()
    alone = document(described(made / "config.json", scanner))
    assert differences(alone, made / "config.json") == set()
    (made / "renamed.json").write_bytes((made / "config.json").read_bytes())
    assert differences(alone, made / "renamed.json") == set()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda path: (path / "config.json").write_text("{}"), {("changed", "config.json")}),
        (lambda path: (path / "new").write_bytes(b""), {("added", "new")}),
        (lambda path: (path / ".git").mkdir() or (path / ".git/x").write_bytes(b""), {("added", ".git/x")}),
        (lambda path: (path / "README.md").unlink(), {("missing", "README.md")}),
        (lambda path: (path / "README.md").rename(path / "r.md"), {("missing", "README.md"), ("added", "r.md")}),
    ],
    ids=range(5),
)
def test_every_difference_is_told(made, scanner, change, told):
    bom = document(described(made, scanner))
    change(made)
    assert differences(bom, made) == told


def test_a_document_whose_digest_is_of_other_files_does_not_hold(made, scanner):
    found = described(made, scanner)
    lying = document(
        type(found)(**{name: getattr(found, name) for name in found.__struct_fields__} | {"digest": "sha256-tree:" + "0" * 64})
    )
    assert not lying.faults and differences(lying, made) == {("changed", ".")}


def test_a_file_is_not_a_folder_of_that_file(made, scanner, tmp_path):
    bom = document(described(made / "config.json", scanner))
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/config.json").write_bytes((made / "config.json").read_bytes())
    assert differences(bom, tmp_path / "folder") == {("changed", ".")}


@pytest.mark.parametrize(
    ("change", "kind", "name"),
    [
        (lambda path: install(path, "gamma"), "added", "gamma"),
        (lambda path: (path / SITE / "alpha-1.0.dist-info/METADATA").unlink(), "missing", "alpha"),
        (lambda path: install(path, "alpha", files={"alpha/__init__.py": b"evil"}), "changed", "alpha"),
        (lambda path: (path / SITE / "alpha/__init__.py").write_bytes(b"evil"), "changed", "alpha"),
        (lambda path: (path / SITE / "x.pth").write_bytes(b"evil"), "changed", "the environment"),
    ],
    ids=range(5),
)
def test_an_environment_is_held_to_its_description(made, tmp_path, scanner, change, kind, name):
    python = venv(tmp_path / "venv")
    bom = document(described(made, scanner), environment(python))
    assert compare_environment(bom, environment(python)) == []
    change(python)
    assert (kind, name) in {(one.kind, one.name) for one in compare_environment(bom, environment(python))}
