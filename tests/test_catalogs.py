"""The seam of every catalog: a second plug-in needs one file and no change elsewhere; a taken name and an unknown one are refused."""

from __future__ import annotations

import ast
import importlib
import shutil
import sys
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from vouchgate.audit import catalog as audit
from vouchgate.behaviour import catalog as behaviour
from vouchgate.compliance import catalog as compliance
from vouchgate.evidence import catalog as evidence
from vouchgate.identity import catalog as identity
from vouchgate.inventory import catalog as inventory
from vouchgate.policy import catalog as policy
from vouchgate.protection import catalog as protection
from vouchgate.response import catalog as response
from vouchgate.scanning import catalog as scanning
from vouchgate.segmentation import catalog as segmentation
from vouchgate.segmentation.plan import Gateway, Plan
from vouchgate.vocabulary.errors import Conflict, InvalidInput, NotFound
from vouchgate.vocabulary.vouches import Method, Vouch

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "vouchgate"


@dataclass(frozen=True)
class Seam:
    """A catalog whose plug-ins are Python files."""

    folder: str
    first: str
    """Name of a plug-in that is there."""
    file: str
    listing: Callable[[], Any]
    unknown: Callable[[], Any] | None = None
    """Asks for a plug-in that is not there."""

    def names(self) -> set[str]:
        found = self.listing()
        return set(found) if isinstance(found, dict) else {one.name for one in found}


def unknown_predicate() -> None:
    evidence.check_fits(
        Vouch(
            id="v", trust_domain="test.local", predicate_type="second", predicate_version=1, subjects=(), outcome="pass", issuer_key="k",
            issuer_role="scanner", issued_at=0, not_before=0, expires_at=1, method=Method(tool="t", version="1"),
        )
    )  # fmt: skip


NO_PLAN = Plan(trust_domain="test.local", zones=(), endpoints=(), flows=(), gateway=Gateway(namespace="g", labels={"a": "b"}, ports=(1,)))
PARTS = {"evidence.bom", "evidence.sigstore", "scanning.knowledge", "scanning.pickles", "scanning.disarm"}
"""Folders of a room that hold its parts, not plug-ins of one kind."""
SEAMS = [
    Seam("identity.attestors", "unix-process", "unix_process", identity.attestors, lambda: identity.attest("second", {})),
    Seam("scanning.formats", "safetensors", "safetensors", scanning.installed),
    Seam("evidence.predicates", "scan", "scan", evidence.predicates, unknown_predicate),
    Seam("behaviour.detectors", "denied-burst", "denied_burst", behaviour.detectors, lambda: behaviour.detector("second")),
    Seam("response.actions", "revoke-identity", "revoke_identity", response.actions, lambda: response.action("second")),
    Seam("protection.keepers", "file", "file", protection.keepers, lambda: protection.keeper("second")),
    Seam("protection.rotators", "postgres", "postgres", protection.rotators, lambda: protection.rotator("second")),
    Seam("audit.exporters", "jsonl", "jsonl", audit.exporters, lambda: audit.exporter("second")),
    Seam("segmentation.exporters", "kubernetes", "kubernetes", segmentation.exporters, lambda: segmentation.export("second", NO_PLAN)),
    Seam("inventory.finders", "model-files", "model_files", inventory.finders, lambda: inventory.finder("second")),
]
every_seam = pytest.mark.parametrize("seam", SEAMS, ids=lambda seam: seam.folder)


@pytest.fixture
def drop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Seam, str, str], None]]:
    """Puts a file into a catalog's folder for the time of one test."""
    dropped: list[tuple[Seam, str]] = []

    def put(seam: Seam, file: str, text: str) -> None:
        (tmp_path / f"{file}.py").write_text(text, "utf-8")
        package = importlib.import_module(f"vouchgate.{seam.folder}")
        monkeypatch.setattr(package, "__path__", [*package.__path__, str(tmp_path)])
        dropped.append((seam, file))
        importlib.invalidate_caches()
        forget(seam)

    yield put
    for seam, file in dropped:
        sys.modules.pop(f"vouchgate.{seam.folder}.{file}", None)
        vars(importlib.import_module(f"vouchgate.{seam.folder}")).pop(file, None)
        forget(seam)


def forget(seam: Seam) -> None:
    getattr(seam.listing, "cache_clear", lambda: None)()


def written(seam: Seam, name: str) -> str:
    """The text of the plug-in that is there, under another name."""
    text = (SOURCE / seam.folder.replace(".", "/") / f"{seam.file}.py").read_text("utf-8")
    assert f'"{seam.first}"' in text
    return text.replace(f'"{seam.first}"', f'"{name}"')


@every_seam
def test_a_second_plug_in_needs_one_file(seam, drop):
    before = seam.names()
    assert seam.first in before and "second" not in before
    if seam.unknown:
        with pytest.raises((InvalidInput, NotFound)) as caught:
            seam.unknown()
        assert seam.first in caught.value.remedy
    drop(seam, "dropped_in", written(seam, "second"))
    assert seam.names() == before | {"second"}


@every_seam
def test_once_the_file_is_gone_so_is_the_plug_in(seam):
    forget(seam)
    assert "second" not in seam.names()


@every_seam
def test_a_name_that_is_taken_is_refused(seam, drop):
    drop(seam, "dropped_in", written(seam, seam.first))
    with pytest.raises(Conflict, match=seam.first):
        seam.listing()


@every_seam
def test_a_file_that_is_no_plug_in_fails_loudly(seam, drop):
    drop(seam, "dropped_in", '"""Nothing."""\n')
    with pytest.raises(AttributeError):
        seam.listing()


@every_seam
def test_a_plug_in_is_imported_by_its_catalog_alone(seam):
    """What names a plug-in's module would have to be changed with it."""
    plugs = {f"vouchgate.{seam.folder}.{file.stem}" for file in (SOURCE / seam.folder.replace(".", "/")).glob("[!_]*.py")}
    assert f"vouchgate.{seam.folder}.{seam.file}" in plugs
    named = {str(file.relative_to(SOURCE)): plugs & imported(file) for file in SOURCE.rglob("*.py")}
    assert {file: modules for file, modules in named.items() if modules} == {}


@cache
def imported(file: Path) -> set[str]:
    """Modules that a source file names in an import; read once for all seams."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {one.name for one in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{one.name}" for one in node.names}
    return found


@every_seam
def test_the_import_contracts_know_the_folder(seam):
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]["contracts"]
    apart = {module for contract in contracts if contract["type"] == "independence" for module in contract["modules"]}
    assert f"vouchgate.{seam.folder}.*" in apart


def test_every_folder_of_plug_ins_has_a_seam_and_a_place_in_the_documentation():
    folders = {
        f"{room.name}.{folder.name}"
        for room in SOURCE.iterdir()
        if (room / "catalog.py").exists()
        for folder in room.iterdir()
        if folder.is_dir() and (folder / "__init__.py").exists() and any(folder.glob("[!_]*.py"))
    }
    assert folders - PARTS == {seam.folder for seam in SEAMS}
    assert {folder for _, folder, _, _ in documented().CATALOGS} == folders - PARTS


def documented() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_generate", ROOT / "docs" / "generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_second_framework_needs_one_file_and_a_taken_name_is_refused(tmp_path, monkeypatch):
    folder = tmp_path / "frameworks"
    shutil.copytree(SOURCE / "compliance" / "frameworks", folder)
    text = (folder / "nist_800_207.toml").read_text("utf-8")
    with pytest.raises(NotFound, match="second"):
        compliance.framework("second")
    monkeypatch.setattr(compliance, "_FOLDER", folder)
    try:
        (folder / "second.toml").write_text(text.replace('"nist-800-207"', '"second"'), "utf-8")
        compliance.frameworks.cache_clear()
        assert set(compliance.frameworks()) == {"nist-800-207", "second"}
        (folder / "second.toml").write_text(text, "utf-8")
        compliance.frameworks.cache_clear()
        with pytest.raises(Conflict):
            compliance.frameworks()
    finally:
        compliance.frameworks.cache_clear()


def test_a_second_policy_pack_needs_one_file(tmp_path, monkeypatch):
    folder = tmp_path / "packs"
    shutil.copytree(SOURCE / "policy" / "packs", folder)
    with pytest.raises(NotFound, match="second"):
        policy.pack("second")
    before = policy.packs()
    monkeypatch.setattr(policy, "_FOLDER", folder)
    (folder / "second.cedar").write_text("// The second.\n", "utf-8")
    assert set(policy.packs()) == {*before, "second"} and policy.pack("second").text == "// The second.\n"
