"""`scan` as a whole: typed on any bytes, never clean by accident, blind to names, closed to faults of its own."""

from __future__ import annotations

import builtins
import importlib
import sys
from pathlib import Path
from typing import Any

import pytest
from artifact_making import good_safetensors, onnx_bytes, rich_onnx
from hypothesis import given, settings
from hypothesis import strategies as st

from vouchgate.scanning import catalog, formats
from vouchgate.scanning.scan import scan, scan_folder
from vouchgate.scanning.settings import ScanSettings, settings_digest
from vouchgate.scanning.sniff import NOT_MINE, Claim, Format
from vouchgate.scanning.verdict import Reading, Reason, ScanReport, Verdict, outcome_of
from vouchgate.vocabulary import wire
from vouchgate.vocabulary.digests import file_digest

SEEDS = (
    good_safetensors(),
    onnx_bytes(),
    rich_onnx(),
    b"\x80\x04\x95",
    b"PK\x03\x04",
    b"PK\x05\x06" + bytes(18),
    b"\x93NUMPY\x01\0v\0",
    b"\x78\x9c",
    b"\x1f\x8b\x08",
)
MAGICS = (b"PK", b"MZ", b"GIF89a", b"BZh9", b"PAR1", b"CBM1", b"GGUF", b"ARROW1")
STARTS = (b"", *SEEDS, b"\x08\x09\x12", b"\x40\0\0\0\0\0\0\0{", b"\xfd7zXZ\0", b"BZh9", b"]\0\0", b"\x04\x22\x4d\x18")


@settings(max_examples=600)
@given(st.sampled_from(STARTS), st.binary(max_size=400))
def test_any_bytes_give_a_typed_result(start: bytes, rest: bytes) -> None:
    verdict = scan(start + rest)
    assert verdict.outcome in ("clean", "refused", "review")
    assert (verdict.outcome == "clean") == (not verdict.reasons and verdict.covered == verdict.size > 0)
    assert all(reason.where and reason.why and reason.remedy for reason in verdict.reasons)
    assert wire.decode(Verdict, wire.encode(verdict)) == verdict


@given(st.sampled_from(SEEDS), st.text(max_size=30))
def test_the_name_decides_nothing(content: bytes, name: str) -> None:
    named, unnamed = scan(content, name), scan(content)
    assert (named.outcome, named.format, named.reasons, named.covered) == (
        unnamed.outcome,
        unnamed.format,
        unnamed.reasons,
        unnamed.covered,
    )


def test_reports_survive_the_wire() -> None:
    report = ScanReport(verdict=scan(rich_onnx()), digest=file_digest(rich_onnx()), confinement=("seccomp",))
    assert wire.decode(ScanReport, wire.encode(report)) == report
    assert (report.size, report.format) == (len(rich_onnx()), "onnx")


def test_no_bytes_and_too_many_bytes_are_refused_unread() -> None:
    assert scan(b"").reasons[0].rule == "scan:empty"
    assert scan(onnx_bytes(), settings=ScanSettings(max_artifact_bytes=10)).reasons[0].rule == "scan:too-large"


def test_the_settings_are_part_of_the_verdict() -> None:
    assert scan(b"x").settings_digest == settings_digest(ScanSettings())
    assert scan(b"x", settings=ScanSettings(max_rank=3)).settings_digest != scan(b"x").settings_digest


def test_nothing_clean_without_full_coverage() -> None:
    reason = Reason(rule="r", where="w", why="y", remedy="m", weight="review")
    assert outcome_of(Reading(covered=9), 10) == "incomplete"
    assert outcome_of(Reading(covered=11), 10) == "incomplete"
    assert outcome_of(Reading(covered=9, reasons=(reason,)), 10) == "incomplete"
    assert outcome_of(Reading(covered=10, reasons=(reason,)), 10) == "review"
    assert outcome_of(Reading(covered=10), 10) == "clean"


def plug_in(name: str, read: Any, strength: str = "certain") -> Format:
    claim = Claim(strength=strength, kind=name, because="test")  # type: ignore[arg-type]
    return Format(name=name, recognise=lambda view: claim, read=read)


@pytest.mark.parametrize("fault", [ValueError("x"), MemoryError(), RecursionError(), KeyError("x"), AssertionError()])
def test_a_fault_of_a_plug_in_is_incomplete(fault: BaseException) -> None:
    def read(view: memoryview, _: ScanSettings) -> Reading:
        raise fault

    verdict = scan(b"anything", formats=(plug_in("broken", read),))
    assert (verdict.outcome, verdict.format) == ("incomplete", "broken")
    assert verdict.reasons[0].rule == "scan:fault"


def test_a_fault_while_recognising_is_incomplete() -> None:
    def recognise(view: memoryview) -> Claim:
        raise ValueError

    assert scan(b"x", formats=(Format(name="broken", recognise=recognise, read=lambda view, _: Reading()),)).outcome == "incomplete"


def test_a_possible_claim_yields_to_a_certain_one() -> None:
    whole = lambda view, _: Reading(covered=len(view))  # noqa: E731
    both = (plug_in("sure", whole), plug_in("maybe", whole, "possible"))
    assert scan(b"x", formats=both).format == "sure"
    assert scan(b"x", formats=both[1:]).format == "maybe"
    assert scan(b"x", formats=(both[0], plug_in("also", whole))).format == "polyglot"


def test_a_plug_in_cannot_write_into_the_buffer() -> None:
    def read(view: memoryview, _: ScanSettings) -> Reading:
        view[0] = 0
        return Reading(covered=len(view))

    content = bytearray(b"x")
    assert scan(memoryview(content), formats=(plug_in("writer", read),)).outcome == "incomplete"
    assert content == b"x"


def test_the_catalog_is_the_folder() -> None:
    folder = Path(formats.__file__).parent
    modules = [importlib.import_module(f"{formats.__name__}.{path.stem}") for path in folder.glob("*.py") if path.stem != "__init__"]
    assert [kind.name for kind in catalog.installed()] == sorted(module.NAME for module in modules)
    assert all(kind.read_folder for kind in catalog.installed() if kind.raw_files)


def test_scanning_never_imports_what_an_artifact_names(monkeypatch: pytest.MonkeyPatch) -> None:
    scan(onnx_bytes())
    before = set(sys.modules)
    asked: list[str] = []
    real = builtins.__import__
    monkeypatch.setattr(builtins, "__import__", lambda name, *rest: asked.append(name) or real(name, *rest))
    scan(b"cantigravity\nx\n(tR.")
    scan(b"\x80\x04\x8c\x04this\x8c\x01x\x93.")
    monkeypatch.undo()
    assert "antigravity" not in asked
    assert "this" not in asked
    assert set(sys.modules) <= before


@pytest.mark.parametrize("magic", MAGICS)
def test_a_broken_head_of_a_binary_format_is_no_text(magic: bytes) -> None:
    assert scan(magic + b"\xff" + b"hello text\n" * 20).outcome == "refused"
    assert scan("Größe: straße, élan, ÿ\n".encode("cp1252") * 3).outcome == "clean"
    assert scan(b"\xe9\xff\xfe\xfd" * 20).outcome == "refused"


@pytest.mark.parametrize(
    "magic", [b"GIF89a", b"PAR1", b"CBM1", b"GGUF", b"ARROW1\0\0", b"\x08\x07\x12\x04", b"\x08\x01\x12\x04", b"PK\x03\x04"]
)
def test_a_binary_format_that_happens_to_be_text_is_no_polyglot(magic: bytes) -> None:
    for rest in (b"a, b\n1, 2\n3, 4\n" * 9, b"a: 1\nb: 2\n" * 9, b"words and words\n" * 30):
        found = scan(magic + rest)
        assert (found.outcome, found.format in ("polyglot", "text", "csv", "yaml")) == ("refused", False)


def test_a_folder_is_told_every_kind_by_its_own_name() -> None:
    long = "a" * 250
    files = {"config.json": b'{"model_type": "bert"}', f"{long}.safetensors": b"no tensors", "b`.safetensors": b"no tensors"}
    found = scan_folder(files | {f"{index}.txt": b"words" for index in range(2_100)} | {"z.safetensors": b"no tensors"})
    assert found.outcome == "refused"
    assert len(found.members) == 2_000
    assert {reason.member for reason in found.reasons if reason.rule == "hugging-face:out-of-place"} == {
        f"{long}.safetensors", "b`.safetensors", "z.safetensors",
    }  # fmt: skip


def test_a_name_tightens_in_a_folder_too() -> None:
    files = {"config.json": b'{"model_type": "bert"}'}
    assert scan_folder(files).outcome == "clean"
    assert scan_folder(files | {"x.pth": b"import os"}).outcome == "refused"
    assert scan_folder(files | {"run.ps1": b"{}"}).outcome == "review"
    assert scan_folder({"x.pth": b"some words"}).outcome == "refused"
    assert scan_folder(files | {"package/__init__.py": b"", "empty.txt": b""}).outcome == "clean"
    assert scan_folder(files | {"module.py": b""}).outcome == "review"


def test_numbers_of_a_folder_are_no_other_programs_file() -> None:
    read = lambda folder, scope: Reading(covered=sum(len(folder.sight(name)) for name in folder.names))  # noqa: E731
    mine = Format(
        name="mine",
        recognise=lambda sight: NOT_MINE,
        read=lambda sight, scope: Reading(),
        recognise_folder=lambda names: Claim(strength="certain", kind="mine"),
        read_folder=read,
        raw_files=lambda names: frozenset({"raw"}),
    )
    kinds = (mine, *catalog.installed())
    for content in (b"\x01\x02\x03", b"plain words", b"a: 1\n", b"\0" * 2_000, b"cos\n"):
        assert scan_folder({"raw": content}, formats=kinds).outcome == "clean"
        assert scan_folder({"other": b"\x01\x02\x03"}, formats=kinds).outcome == "refused"
    for content in (good_safetensors(), onnx_bytes(), b"\x80\x04cos\nsystem\n(S'x'\ntR.", b"\0" * 512 + b"\x89HDF\r\n\x1a\n"):
        assert scan_folder({"raw": content}, formats=kinds).reasons[0].rule == "scan:polyglot"
