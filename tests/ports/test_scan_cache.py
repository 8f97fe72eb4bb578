"""Kept verdicts: they come back only where all that they rest on is the same, and a folder that somebody tampered with is one without entries."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace
from safetensors.numpy import save

from vouchgate.ports import scan_cache
from vouchgate.ports.scan_cache import ABANDONED_SECONDS, MAX_ENTRY_BYTES, Ground, ScanCache
from vouchgate.ports.scanner import FolderFile, Scanner
from vouchgate.scanning.jobs import ASKS, ENDED, Job, Question
from vouchgate.scanning.knowledge.entries import Entry
from vouchgate.scanning.settings import DEFAULTS, ScanSettings, settings_digest
from vouchgate.scanning.verdict import SCANNER_VERSION, Reason, ScanReport, Verdict
from vouchgate.vocabulary.digests import file_digest
from vouchgate.vocabulary.errors import InvalidInput, NotPermitted, VouchgateError
from vouchgate.vocabulary.vouches import UnixMillis
from vouchgate.vocabulary.wire import encode

NOW = UnixMillis(1_800_000_000_000)
GOOD = save({"w": np.arange(4, dtype=np.float32)})
BAD = b"cos\nsystem\n(S'true'\ntR."
QUESTION = Question(digest=file_digest(GOOD), scanner="2", knowledge="a" * 64, settings="b" * 64)
VERDICT = Verdict(
    outcome="clean", format="safetensors", size=len(GOOD), covered=len(GOOD), scanner_version="2", settings_digest="b" * 64,
    knowledge_version=1, knowledge_digest="a" * 64,
)  # fmt: skip
REPORT = ScanReport(verdict=VERDICT, digest=file_digest(GOOD))
REASON = Reason(rule="a:b", where="x", why="y", remedy="z")


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[ScanCache]:
    made = ScanCache(str(tmp_path / "kept"), now=NOW)
    yield made
    made.close()


def ground(cache: ScanCache, **changes: Any) -> Ground:
    return replace(cache.ground(Job(), QUESTION), **changes)


def entry(tmp_path: Path) -> Path:
    (found,) = (tmp_path / "kept").iterdir()
    return found


def test_it_gives_back_what_was_kept_and_nothing_on_any_other_ground(cache: ScanCache, tmp_path: Path) -> None:
    here = ground(cache)
    assert cache.find(here) is None
    cache.keep(here, REPORT)
    assert cache.find(here) == REPORT
    assert entry(tmp_path).stat().st_mode & 0o777 == 0o600
    others: list[Ground] = [
        ground(cache, folder=True),
        ground(cache, explain=True),
        ground(cache, version="9"),
        ground(cache, code="c" * 64),
        ground(cache, trust_root=1),
        *(
            ground(cache, question=replace(QUESTION, **{key: value}))
            for key, value in (("digest", file_digest(BAD)), ("scanner", "3"), ("knowledge", "c" * 64), ("settings", "c" * 64))
        ),
    ]
    assert [cache.find(other) for other in others] == [None] * len(others)


WRONG = {
    "incomplete": replace(REPORT, verdict=replace(VERDICT, outcome="incomplete", reasons=(REASON,))),
    "clean with a reason": replace(REPORT, verdict=replace(VERDICT, reasons=(REASON,))),
    "clean and not covered": replace(REPORT, verdict=replace(VERDICT, covered=1)),
    "refused without a reason": replace(REPORT, verdict=replace(VERDICT, outcome="refused")),
    "of another size": replace(REPORT, verdict=replace(VERDICT, size=1, covered=1)),
    "of other content": replace(REPORT, digest=replace(file_digest(BAD), size=len(GOOD))),
    "by another scanner": replace(REPORT, verdict=replace(VERDICT, scanner_version="1")),
    "with other knowledge": replace(REPORT, verdict=replace(VERDICT, knowledge_digest="c" * 64)),
    "with other settings": replace(REPORT, verdict=replace(VERDICT, settings_digest="c" * 64)),
}


@pytest.mark.parametrize("report", WRONG.values(), ids=WRONG.keys())
def test_what_is_no_answer_is_not_kept_and_not_believed(
    report: ScanReport, cache: ScanCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache.keep(ground(cache), report)
    assert list((tmp_path / "kept").iterdir()) == []
    with monkeypatch.context() as patched:
        patched.setattr(scan_cache, "_answers", lambda report, question: True)
        cache.keep(ground(cache), report)
        assert cache.find(ground(cache)) == report
    assert cache.find(ground(cache)) is None


def test_an_entry_with_any_bit_flipped_or_cut_off_is_none(cache: ScanCache, tmp_path: Path) -> None:
    cache.keep(ground(cache), REPORT)
    kept = entry(tmp_path)
    data = kept.read_bytes()
    for at in range(0, len(data), 7):
        kept.write_bytes(data[:at] + bytes((data[at] ^ 1,)) + data[at + 1 :])
        assert cache.find(ground(cache)) is None, at
        kept.write_bytes(data[:at])
        assert cache.find(ground(cache)) is None, at
    kept.write_bytes(data)
    assert cache.find(ground(cache)) == REPORT


def test_an_entry_under_anothers_name_is_none(cache: ScanCache, tmp_path: Path) -> None:
    cache.keep(ground(cache), REPORT)
    other = ground(cache, question=replace(QUESTION, digest=file_digest(BAD)))
    entry(tmp_path).rename(tmp_path / "kept" / scan_cache._name(other))
    assert cache.find(other) is None


def swapped(path: Path) -> None:
    path.rename(path.parent.parent / "away")
    path.symlink_to("../away")


TROUBLES: dict[str, Callable[[Path], object]] = {
    "a link": swapped,
    "a second name": lambda path: os.link(path, path.parent.parent / "second"),
    "open to others": lambda path: path.chmod(0o644),
    "writable by others": lambda path: path.chmod(0o622),
    "huge": lambda path: os.truncate(path, MAX_ENTRY_BYTES + 1),
    "empty": lambda path: os.truncate(path, 0),
    "a pipe": lambda path: (path.unlink(), os.mkfifo(path, 0o600)),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
}


@pytest.mark.parametrize("trouble", TROUBLES.values(), ids=TROUBLES.keys())
def test_what_is_no_plain_file_of_ours_is_no_entry(trouble: Callable[[Path], object], cache: ScanCache, tmp_path: Path) -> None:
    cache.keep(ground(cache), REPORT)
    kept = entry(tmp_path)
    trouble(kept)
    assert cache.find(ground(cache)) is None
    cache.keep(ground(cache), REPORT)
    assert cache.find(ground(cache)) == (None if kept.is_dir() else REPORT)
    assert not [one for one in (tmp_path / "kept").iterdir() if one.name.startswith(".new-")]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to give a file away")
def test_what_belongs_to_another_uid_is_none(cache: ScanCache, tmp_path: Path) -> None:
    cache.keep(ground(cache), REPORT)
    os.chown(entry(tmp_path), 65_534, 65_534)
    assert cache.find(ground(cache)) is None
    os.chown(tmp_path / "kept", 65_534, 65_534)
    with pytest.raises(NotPermitted):
        ScanCache(str(tmp_path / "kept"), now=NOW)


@pytest.mark.parametrize("mode", [0o755, 0o770, 0o701, 0o720])
def test_a_folder_that_others_may_enter_is_refused_and_left_as_it_is(mode: int, tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept").chmod(mode)
    with pytest.raises(NotPermitted):
        ScanCache(str(tmp_path / "kept"), now=NOW)
    assert (tmp_path / "kept").stat().st_mode & 0o777 == mode


def test_what_is_no_folder_of_ours_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "own").mkdir(0o700)
    (tmp_path / "link").symlink_to("own")
    for name in ("file", "link", "none/kept", "", "a\0b"):
        with pytest.raises(VouchgateError):
            ScanCache(str(tmp_path / name) if name else "", now=NOW)


def test_the_folder_is_held_and_not_its_name(cache: ScanCache, tmp_path: Path) -> None:
    (tmp_path / "kept").rename(tmp_path / "moved")
    (tmp_path / "kept").mkdir()
    cache.keep(ground(cache), REPORT)
    assert list((tmp_path / "kept").iterdir()) == []
    assert cache.find(ground(cache)) == REPORT


def test_the_oldest_of_too_many_go_and_what_was_abandoned(cache: ScanCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan_cache, "MAX_ENTRIES", 8)
    monkeypatch.setattr(scan_cache, "KEPT_ENTRIES", 5)
    folder, now = tmp_path / "kept", NOW / 1000
    for number in range(8):
        (folder / f"{number:064}").write_bytes(b"")
        os.utime(folder / f"{number:064}", (now - 10 * number, now - 10 * number))
    for name, age in ((".new-a", ABANDONED_SECONDS + 60), (".new-b", 5)):
        (folder / name).write_bytes(b"half")
        os.utime(folder / name, (now - age, now - age))
    ScanCache(str(folder), now=NOW).close()
    assert {one.name for one in folder.iterdir()} == {".new-b", *(f"{number:064}" for number in range(4))}


def scanned(cache: ScanCache | None, content: bytes, tmp_path: Path, **how: Any) -> ScanReport:
    (tmp_path / "m").write_bytes(content)
    with Scanner(cache=cache, explain=how.pop("explain", False)) as scanner:
        descriptor = os.open(tmp_path / "m", os.O_RDONLY)
        try:
            return scanner.scan_file(descriptor, **({"name": "m"} | how))
        finally:
            os.close(descriptor)


@pytest.mark.parametrize("content", [GOOD, BAD, b"import os\n", b"\0\1\2 what is this"], ids=["clean", "refused", "review", "unknown"])
def test_a_kept_verdict_is_the_found_one_under_the_name_shown_now(content: bytes, cache: ScanCache, tmp_path: Path) -> None:
    plain = scanned(None, content, tmp_path)
    first = scanned(cache, content, tmp_path)
    assert first == plain
    before = entry(tmp_path).stat().st_mtime_ns
    again = scanned(cache, content, tmp_path, name="other")
    assert again == replace(first, verdict=replace(first.verdict, name="other"))
    assert entry(tmp_path).stat().st_mtime_ns == before


def test_what_is_known_is_not_read_again(cache: ScanCache, tmp_path: Path) -> None:
    """The verdict that comes back is the kept one, even where another would be found now."""
    scanned(cache, BAD, tmp_path)
    kept = entry(tmp_path)
    question = Question(
        digest=file_digest(BAD), scanner=SCANNER_VERSION, knowledge=scanned(None, BAD, tmp_path).verdict.knowledge_digest,
        settings=settings_digest(DEFAULTS),
    )  # fmt: skip
    here = cache.ground(Job(), question)
    told = cache.find(here)
    assert told is not None
    kept.unlink()
    cache.keep(here, replace(told, verdict=replace(told.verdict, facts={"marked": 1})))
    assert scanned(cache, BAD, tmp_path).verdict.facts == {"marked": 1}
    assert scanned(cache, BAD, tmp_path, settings=ScanSettings(max_members=5)).verdict.facts != {"marked": 1}
    assert scanned(cache, BAD, tmp_path, explain=True).verdict.facts != {"marked": 1}
    allowed = {file_digest(BAD).text: (Entry(module="acme", name="A", uses=("constructible",), library="allowed"),)}
    assert scanned(cache, BAD, tmp_path, allowed=allowed).verdict.facts != {"marked": 1}
    assert "marked" not in scanned(cache, BAD, tmp_path, deep=False).verdict.facts


def test_a_folder_is_kept_by_its_tree(cache: ScanCache, tmp_path: Path) -> None:
    def folder(**files: bytes) -> ScanReport:
        for name, content in files.items():
            (tmp_path / name).write_bytes(content)
        opened = [FolderFile(name.encode(), lambda name=name: os.open(tmp_path / name, os.O_RDONLY)) for name in files]
        with Scanner(cache=cache) as scanner:
            return scanner.scan_folder(opened, name="d")

    assert folder(a=GOOD, b=GOOD).verdict.outcome == "clean"
    assert len(list((tmp_path / "kept").iterdir())) == 1
    assert folder(a=GOOD, b=GOOD).verdict.outcome == "clean"
    assert len(list((tmp_path / "kept").iterdir())) == 1
    assert folder(a=GOOD, b=BAD).verdict.outcome == "refused"
    assert folder(a=GOOD, c=GOOD).verdict.outcome == "clean"
    assert len(list((tmp_path / "kept").iterdir())) == 3


def test_names_are_told_where_they_are_asked_for(cache: ScanCache, tmp_path: Path) -> None:
    for _ in range(2):
        (found,) = scanned(cache, BAD, tmp_path, explain=True).names
        assert (found.module, found.name, found.entry) == ("os", "system", None)
    assert scanned(cache, BAD, tmp_path).names == ()


def pretending(question: bytes, then: bytes) -> tuple[str, ...]:
    """A process in the scanner's place that asks this, and reports that whatever it is told."""
    code = f"""
        import socket, struct, sys
        control = socket.socket(fileno=int(sys.argv[sys.argv.index("--control") + 1]))
        while True:
            said, descriptors, _, _ = socket.recv_fds(control, 16, 1)
            if not said: break
            job = socket.socket(fileno=descriptors[0])
            job.sendall({question!r})
            job.settimeout(0.2)
            job.sendall({then!r} + {ENDED!r} + struct.pack("!i", 0))
            try:
                while job.recv(65536): pass
            except OSError: pass
            job.close()
    """
    return (sys.executable, "-I", "-c", textwrap.dedent(code))


def asking(question: Question) -> bytes:
    body = encode(question)
    return ASKS + len(body).to_bytes(4, "big") + body


ITS = Question(digest=file_digest(GOOD), scanner="2", knowledge="a" * 64, settings=settings_digest(DEFAULTS))
SAYS = encode(replace(REPORT, verdict=replace(VERDICT, settings_digest=ITS.settings)))
LIES: list[tuple[str, bytes, bytes, str]] = [
    ("asks and says what it may", asking(ITS), SAYS, "clean"),
    ("asks and says nothing", asking(ITS), b"", "incomplete"),
    ("asks twice", asking(ITS) * 2, SAYS, "incomplete"),
    ("does not ask", b"", SAYS, "clean"),
    ("asks about another size", asking(replace(ITS, digest=file_digest(GOOD + b"x"))), SAYS, "clean"),
    ("asks about a tree", asking(replace(ITS, digest=replace(ITS.digest, kind="tree"))), SAYS, "clean"),
    ("asks with other settings", asking(replace(ITS, settings="0" * 64)), SAYS, "clean"),
    ("asks too long", ASKS + b"\xff\xff\xff\xff", b"", "incomplete"),
    ("asks half", ASKS + b"\x00\x00", b"", "incomplete"),
    ("asks nonsense", ASKS + b"\x00\x00\x00\x02{}", SAYS, "incomplete"),
]


@pytest.mark.parametrize(("question", "then", "outcome"), [lie[1:] for lie in LIES], ids=[lie[0] for lie in LIES])
def test_a_child_that_asks_for_something_else_poisons_nothing(
    question: bytes, then: bytes, outcome: str, cache: ScanCache, tmp_path: Path
) -> None:
    (tmp_path / "m").write_bytes(GOOD)
    with Scanner(cache=cache, command=pretending(question, then), timeout=5.0) as scanner:
        report = scanner.scan_file(os.open(tmp_path / "m", os.O_RDONLY))
    assert report.verdict.outcome == outcome
    names = [one.name for one in (tmp_path / "kept").iterdir()]
    assert names == ([scan_cache._name(cache.ground(Job(), ITS))] if question == asking(ITS) and outcome == "clean" else [])


def test_a_child_that_was_told_the_verdict_is_known_and_reports_another_is_not_believed_for_others(
    cache: ScanCache, tmp_path: Path
) -> None:
    here = cache.ground(Job(), ITS)
    cache.keep(here, replace(REPORT, verdict=replace(VERDICT, settings_digest=ITS.settings, facts={"marked": 1})))
    (tmp_path / "m").write_bytes(GOOD)
    with Scanner(cache=cache, command=pretending(asking(ITS), SAYS), timeout=5.0) as scanner:
        scanner.scan_file(os.open(tmp_path / "m", os.O_RDONLY))
    kept = cache.find(here)
    assert kept is not None
    assert kept.verdict.facts == {"marked": 1}


def test_many_that_write_at_once_leave_one_whole_entry(cache: ScanCache, tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: cache.keep(ground(cache), REPORT), range(100)))
        assert set(map(repr, pool.map(lambda _: cache.find(ground(cache)), range(50)))) == {repr(REPORT)}
    assert entry(tmp_path).name == scan_cache._name(ground(cache))


def test_whoever_is_killed_while_writing_leaves_a_cache_that_works(cache: ScanCache, tmp_path: Path) -> None:
    code = """
        import sys
        from vouchgate.ports.scan_cache import ScanCache
        from vouchgate.scanning.jobs import Job, Question
        from vouchgate.scanning.verdict import Reason, ScanReport, Verdict
        from vouchgate.vocabulary.digests import file_digest
        cache = ScanCache(sys.argv[1], now=1)
        sys.stdout.write("on\\n"); sys.stdout.flush()
        number = 0
        while True:
            number += 1
            content = b"%d" % (number % 7)
            question = Question(digest=file_digest(content), scanner="2", knowledge="a", settings="b")
            verdict = Verdict(outcome="refused", format="x", size=1, scanner_version="2", knowledge_digest="a", settings_digest="b",
                reasons=(Reason(rule="a", where="b", why="c" * 60000, remedy="d"),))
            cache.keep(cache.ground(Job(), question), ScanReport(verdict=verdict, digest=file_digest(content)))
    """
    for _ in range(4):
        with subprocess.Popen([sys.executable, "-c", textwrap.dedent(code), str(tmp_path / "kept")], stdout=subprocess.PIPE) as writer:
            assert writer.stdout is not None
            writer.stdout.readline()
            while not list((tmp_path / "kept").glob("[0-9a-f]*")):
                pass
            writer.send_signal(signal.SIGKILL)
        whole = [one for one in (tmp_path / "kept").iterdir() if not one.name.startswith(".new-")]
        for one in whole:
            data = one.read_bytes()
            assert data[:65] == scan_cache._checksum(data[65:])
        cache.keep(ground(cache), REPORT)
        assert cache.find(ground(cache)) == REPORT


def test_every_source_of_the_scanner_is_in_the_codes_digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from importlib.resources import files

    names = {name for name, _ in scan_cache._sources(files("vouchgate.scanning"), "")}
    own = Path(scan_cache.__file__).parents[1] / "scanning"
    assert names == {str(one.relative_to(own)) for one in own.rglob("*.py")}
    before = scan_cache.code_digest()
    scan_cache.code_digest.cache_clear()
    assert scan_cache.code_digest() == before
    changed = [*scan_cache._sources(files("vouchgate.scanning"), "scanning/")]
    changed[3] = (changed[3][0], changed[3][1] + b"\n")
    monkeypatch.setattr(scan_cache, "_sources", lambda folder, above: iter(changed))
    scan_cache.code_digest.cache_clear()
    assert scan_cache.code_digest() != before
    scan_cache.code_digest.cache_clear()


def test_errors_say_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput) as told:
        ScanCache(str(tmp_path / "none" / "kept"), now=NOW)
    assert told.value.remedy
