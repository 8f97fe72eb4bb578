"""Cedar's conformance corpus: every decision, every determining and every erring policy; none skipped."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import pytest

from vouchgate.policy.vectors import cases, run_vectors

CORPUS = Path(__file__).resolve().parents[3] / "shared" / "vectors" / "cedar-corpus.tar.xz"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    if not CORPUS.exists():
        pytest.skip("the Cedar corpus does not stand beside this checkout (../shared/vectors/cedar-corpus.tar.xz)")
    target = tmp_path_factory.mktemp("corpus")
    with tarfile.open(CORPUS) as archive:
        archive.extractall(target, filter="data")
    return target / "cedar-corpus"


def test_the_whole_corpus_agrees(folder):
    agreement = run_vectors(folder)
    assert agreement.differences == ()
    assert agreement.agreed == agreement.total
    assert agreement.total >= 15_000
    assert agreement.left_to_cedar < agreement.total // 20


def test_a_corpus_that_states_otherwise_is_reported(folder, tmp_path):
    name = next(one for one in cases(folder) if json.loads((folder / f"{one}.json").read_text())["requests"][0]["decision"] == "allow")
    for suffix in (".json", ".cedar", ".cedarschema", ".entities.json"):
        text = (folder / f"{name}{suffix}").read_text()
        (tmp_path / f"{name}{suffix}").write_text(text.replace('"allow"', '"deny"') if suffix == ".json" else text)
    agreement = run_vectors(tmp_path)
    assert agreement.agreed < agreement.total
    assert agreement.differences
