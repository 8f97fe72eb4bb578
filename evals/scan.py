"""`make eval-scan`: what acts is refused, what is honest is clean, and nothing that is damaged breaks the scanner. Other scanners beside it.

    python evals/scan.py [--quick] [--seed N]

1. Files: the shared corpus where it is there; attacks of our own (scan_pickles, scan_containers, scan_formats) and the same programs renamed, padded and
   wrapped; honest files that the libraries themselves write (scan_benign), in versions that the knowledge base knows and others; models that others
   published (scan_published); 10,000 damaged copies.
2. All of it goes through `vouchgate scan --json FOLDER`, in its one default mode, as a user would call it. Refused counts as refused; for honest files
   anything but clean counts as a false alarm.
3. The generators import nothing of the product and are frozen by `FROZEN`; the seeds that rows are made from were not used while rules were written.
4. Peers (scan_peers.py) get files drawn from all of them. Their shares are of the files that they gave a word on; the others are in the note.
5. Null: random verdicts at the rate of alarms that honest files got. Sabotage: a knowledge base that knows every name for every use. Both must miss.
6. The canary, which every payload would make, must not exist at the end.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import shutil
import subprocess
import sys
import tarfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "evals")]

from benchmarks.rows import Row, emit, exit_code, share_interval  # noqa: E402
from scan_mutations import mutated  # noqa: E402
from scan_pickles import CANARY  # noqa: E402

BUILD = ROOT / "build" / "scan"
CORPUS = ROOT.parent / "shared" / "corpus" / "ai-artifacts-public.tar.xz"
TUNING_SEED, REPORTING_SEED = 20261123, 20270131
GENERATORS = (
    "scan_assembler",
    "scan_gadgets",
    "scan_pickles",
    "scan_containers",
    "scan_keras",
    "scan_graphs",
    "scan_documents",
    "scan_formats",
    "scan_benign",
    "scan_mutations",
    "scan_make",
    "scan_published",
)
FROZEN = "bd0a52cab9d77cbe31f41fc03771033f24813b386e9fc11911b2d075cfc07a99"
"""SHA-256 over the generators' sources, in this order."""
PEERS = ("picklescan", "modelscan", "fickling", "hayward")
PICKLED = {"pickle", "joblib", "pytorch-zip", "pytorch-legacy", "torchscript"}
INERT = {"text", "csv", "yaml", "json", "tokenizer", "hugging-face", "notebook"}
"""Formats of text: a text cut short is a text."""
DAMAGED, QUICK_DAMAGED = 10_000, 1_500
PEER_FILES = 1_500
"""What the other scanners get: the slowest takes tens of milliseconds a file."""


@dataclass(frozen=True)
class Labelled:
    """One artifact and what it is."""

    path: str
    label: str
    """`malicious`, `benign` or `review`."""
    pickled: bool
    group: str
    technique: str
    held: bool = False


@dataclass(frozen=True)
class Said:
    """The product's word on it."""

    verdict: str
    form: str
    rules: tuple[str, ...]
    size: int
    covered: int


# --- the files ---------------------------------------------------------------------------------------------------------------------------


def environment(name: str) -> Path:
    """A Python with what `evals/scan_NAME.txt` names."""
    place, wanted = BUILD / name, ROOT / "evals" / f"scan_{name}.txt"
    stamp = place / ".installed"
    if not stamp.is_file() or stamp.read_text() != wanted.read_text():
        print(f"installing {wanted.name} into {place.relative_to(ROOT)} ...", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", str(place)], check=True)
        subprocess.run([str(place / "bin" / "pip"), "install", "--quiet", "--disable-pip-version-check", "-r", str(wanted)], check=True)
        stamp.write_text(wanted.read_text())
    return place / "bin" / "python"


def attacks(folder: Path, seed: int) -> list[Labelled]:
    shutil.rmtree(folder, ignore_errors=True)
    _made("scan_make.py", folder, seed)
    return [
        Labelled(str(folder / row["path"]), "malicious", row["pickled"], "rewritten" if row["rewritten"] else "own", row["technique"])
        for row in _rows(folder)
    ]


def honest(folder: Path, seed: int) -> list[Labelled]:
    shutil.rmtree(folder, ignore_errors=True)
    _made("scan_benign.py", folder, seed)
    return _honest(folder)


def older(folder: Path, seed: int) -> list[Labelled]:
    """The same by versions of libraries that the knowledge base was not made from."""
    shutil.rmtree(folder, ignore_errors=True)
    _made("scan_benign.py", folder, seed, "--only", "pandas", "scikit-learn", "sklearn-composed", "boosting", python="versions")
    return [replace(one, group="held-out versions") for one in _honest(folder)]


def published(folder: Path) -> list[Labelled]:
    """Models as others published them; those of formats without a reader are told apart."""
    shutil.rmtree(folder, ignore_errors=True)
    subprocess.run([sys.executable, str(ROOT / "evals" / "scan_published.py"), str(folder)], check=True, stderr=subprocess.DEVNULL)
    return [
        Labelled(str(folder / row["path"]), "benign" if row["read"] else "unread", False, "published", f"{row['package']}: {row['name']}")
        for row in _rows(folder)
    ]


def _honest(folder: Path) -> list[Labelled]:
    return [
        Labelled(
            str(folder / row["path"]), "benign", row["format"] in PICKLED, row["group"], f"{row['format']}: {row['what']}", row["held"]
        )
        for row in _rows(folder)
    ]


def _made(script: str, folder: Path, seed: int, *more: str, python: str = "libraries") -> None:
    command = [str(environment(python)), str(ROOT / "evals" / script), str(folder), "--seed", str(seed), *more]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    for line in (*done.stderr.splitlines(), *done.stdout.splitlines()):
        if line.startswith("not made") or "files" in line or "attacks" in line:
            print(" ", line, file=sys.stderr)
    if done.returncode:
        raise SystemExit(f"{script} failed: {done.stderr[-800:]}")


def _rows(folder: Path) -> Iterator[dict[str, object]]:
    yield from map(json.loads, (folder / "labels.jsonl").read_text().splitlines())


def corpus(folder: Path) -> list[Labelled]:
    """The shared one, unpacked as data; none where it is not there."""
    if not CORPUS.is_file():
        print("the shared corpus is not beside this repository: its rows are left out", file=sys.stderr)
        return []
    shutil.rmtree(folder, ignore_errors=True)
    with tarfile.open(CORPUS) as archive:
        archive.extractall(folder, filter="data")
    import csv

    labels = next(folder.rglob("labels.csv"))
    with labels.open() as lines:
        return [
            Labelled(str(labels.parent / row["path"]), row["label"], row["format"] in PICKLED, "shared", row["technique"])
            for row in csv.DictReader(lines)
        ]


def damaged(folder: Path, sources: Sequence[Labelled], count: int, seed: int) -> list[str]:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    files = sorted({path for one in sources for path in [Path(one.path)] if path.is_file()})
    random.Random(seed).shuffle(files)
    done = []
    for index, (how, suffix, body) in enumerate(mutated(files, count, seed)):
        path = folder / f"{index:05d}-{how}{suffix}"
        path.write_bytes(body)
        done.append(str(path))
    return done


# --- the verdicts ------------------------------------------------------------------------------------------------------------------------


def scanned(folder: Path) -> dict[str, Said]:
    """`vouchgate scan --json FOLDER`: path -> its word."""
    command = [str(Path(sys.executable).parent / "vouchgate"), "scan", "--json", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode not in (0, 1):
        raise SystemExit(f"vouchgate scan ended with {done.returncode}: {done.stderr[-800:]}")
    found = {}
    for line in done.stdout.splitlines():
        row = json.loads(line)
        rules = tuple(reason["rule"] for reason in row["reasons"])
        found[row["path"]] = Said(row["verdict"], row["format"], rules, row.get("size", 0), row.get("covered", 0))
    return found


def word(said: dict[str, Said], one: Labelled) -> str:
    """The verdict on one labelled artifact: a folder that was not taken as one artifact is as bad as its worst file."""
    if one.path in said:
        return said[one.path].verdict
    inside = [found.verdict for path, found in said.items() if path.startswith(one.path + "/")]
    for verdict in ("refused", "incomplete", "review", "clean"):
        if verdict in inside:
            return verdict
    return "not reported"


def peers(paths: Sequence[str]) -> dict[str, list[bool | None]]:
    python, listed = environment("peers"), BUILD / "files.txt"
    listed.write_text("\n".join(paths))

    def run(peer: str) -> list[bool | None]:
        done = subprocess.run(
            [str(python), str(ROOT / "evals" / "scan_peers.py"), peer, str(listed)], capture_output=True, text=True, check=False
        )
        return [json.loads(line) for line in done.stdout.splitlines()]

    with ThreadPoolExecutor(2) as pool:
        return dict(zip(PEERS, pool.map(run, PEERS), strict=True))


# --- the rows ----------------------------------------------------------------------------------------------------------------------------


def recall(name: str, files: Sequence[Labelled], said: Callable[[Labelled], str], goal: float = 0.0, *, note: str = "") -> Row:
    """Share refused; met by its lower bound."""
    words = Counter(said(one) for one in files)
    caught, of = words["refused"], len(files)
    low, high = share_interval(caught, of)
    others = ", ".join(f"{count} {verdict}" for verdict, count in sorted(words.items()) if verdict != "refused")
    text = "; ".join(part for part in (f"{caught} of {of} refused", others, note) if part)
    return Row(
        name=name, value=caught / of, unit="share", n=of, interval=(low, high), note=text, goal=f">= {goal}" if goal else "", met=caught / of >= goal if goal else None
    )  # fmt: skip


def alarms(name: str, files: Sequence[Labelled], said: Callable[[Labelled], str], goal: float = 0.0, *, note: str = "") -> Row:
    """Share of honest files that are not clean; met by its upper bound."""
    flagged, of = sum(said(one) != "clean" for one in files), len(files)
    low, high = share_interval(flagged, of)
    return Row(
        name=name, value=flagged / of, unit="share", n=of, interval=(low, high), note="; ".join(filter(None, (f"{flagged} of {of} flagged", note))),
        goal=f"< {goal}" if goal else "", met=high < goal if goal else None,
    )  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="the tuning seed, fewer damaged files, no peers; written beside")
    parser.add_argument("--show", type=int, default=0, metavar="N", help="print the first N misses and false alarms")
    options = parser.parse_args()
    seed = TUNING_SEED if options.quick else REPORTING_SEED
    _frozen(strict=not options.quick)
    Path(CANARY).parent.mkdir(parents=True, exist_ok=True)
    Path(CANARY).unlink(missing_ok=True)
    bad, shared = attacks(BUILD / "attacks", seed), corpus(BUILD / "shared")
    good = [*honest(BUILD / "honest", seed), *older(BUILD / "older", seed), *published(BUILD / "published")]
    unread = [one for one in good if one.label == "unread"]
    good = [one for one in good if one.label == "benign"]
    broken = damaged(
        BUILD / "damaged", [*(one for one in good if one.group != "published"), *bad], QUICK_DAMAGED if options.quick else DAMAGED, seed
    )
    said: dict[str, Said] = {}
    for folder in ("attacks", "honest", "older", "published", "shared"):
        if (BUILD / folder).is_dir():
            said |= scanned(BUILD / folder)
    rows = [*_shared_rows(shared, said), *_own_rows(bad, good, said)]
    rows.append(recall("published models of formats without a reader, refused as unknown", unread, lambda one: word(said, one)))
    rows += _damaged_rows(broken, scanned(BUILD / "damaged"))
    rows += _controls(bad, good, said, seed)
    rows.append(
        Row(name="canaries made", value=float(Path(CANARY).exists()), unit="files", goal="<= 0", met=not Path(CANARY).exists(), n=len(said))
    )
    if not options.quick:
        rows += _peer_rows([*shared, *bad, *good], said, seed)
    _show(options.show, [*bad, *good, *shared], said)
    emit("eval-scan-quick" if options.quick else "eval-scan", rows)
    return exit_code(rows)


def _frozen(*, strict: bool) -> None:
    digest = hashlib.sha256(b"".join((ROOT / "evals" / f"{name}.py").read_bytes() for name in GENERATORS)).hexdigest()
    if digest != FROZEN and strict:
        raise SystemExit(f"the generators are not those that were frozen: {digest}")


def _shared_rows(shared: Sequence[Labelled], said: dict[str, Said]) -> Iterator[Row]:
    if not shared:
        return
    bad = [one for one in shared if one.label == "malicious"]
    yield recall("shared corpus: pickle family refused", [one for one in bad if one.pickled], lambda one: word(said, one), 0.99)
    yield recall("shared corpus: every format refused", bad, lambda one: word(said, one), 0.95)
    yield alarms("shared corpus: honest files flagged", [one for one in shared if one.label == "benign"], lambda one: word(said, one))


def _own_rows(bad: Sequence[Labelled], good: Sequence[Labelled], said: dict[str, Said]) -> Iterator[Row]:
    def verdict(one: Labelled) -> str:
        return word(said, one)

    first = [one for one in bad if one.group == "own"]
    yield recall("own attacks: pickle family refused", [one for one in first if one.pickled], verdict, 0.99)
    yield recall("own attacks: every format refused", first, verdict, 0.95)
    yield recall("own attacks: every format but pickles refused", [one for one in first if not one.pickled], verdict)
    yield recall("own attacks renamed, padded and wrapped: refused", [one for one in bad if one.group == "rewritten"], verdict, 0.99)
    known = [one for one in good if not one.held]
    yield alarms("honest files flagged", known, verdict, 0.01, note="libraries that the knowledge base knows")
    yield alarms("honest files flagged, pickle family", [one for one in known if one.pickled], verdict)
    yield alarms("honest files flagged, other formats", [one for one in known if not one.pickled], verdict)
    for group, what in (
        ("held-out versions", "honest files of held-out versions flagged"),
        ("published", "models published by others, flagged"),
    ):
        yield alarms(what, [one for one in good if one.group == group], verdict)
    held = [one for one in good if one.held]
    if held:
        yield alarms(
            "honest pickles of libraries held out of the knowledge base, flagged",
            held,
            verdict,
            note="their classes are not known, so refused",
        )
        yield alarms("honest files flagged, held-out libraries included", good, verdict)


def _damaged_rows(paths: Sequence[str], said: dict[str, Said]) -> Iterator[Row]:
    lost = [path for path in paths if path not in said or set(said[path].rules) & {"scan:unfinished", "scan:fault"}]
    partly = [path for path in paths if path in said and said[path].verdict == "clean" and said[path].covered != said[path].size]
    cut = [path for path in paths if "-cut" in path and path in said and said[path].verdict == "clean" and said[path].form not in INERT]
    words = Counter(said[path].verdict for path in paths if path in said)
    note = ", ".join(f"{count} {verdict}" for verdict, count in sorted(words.items()))
    yield Row(
        name="damaged files: crashes, hangs, faults",
        value=float(len(lost)),
        unit="files",
        goal="<= 0",
        met=not lost,
        n=len(paths),
        note=f"{note}; {lost[:3]}",
    )
    yield Row(
        name="damaged files: clean on incomplete coverage",
        value=float(len(partly)),
        unit="files",
        goal="<= 0",
        met=not partly,
        n=len(paths),
    )
    yield Row(
        name="cut short and clean, text formats left out",
        value=float(len(cut)),
        unit="files",
        goal="<= 0",
        met=not cut,
        n=len(paths),
        note=str(cut[:3]),
    )


def _controls(bad: Sequence[Labelled], good: Sequence[Labelled], said: dict[str, Said], seed: int) -> Iterator[Row]:
    draw = random.Random(seed)
    rate = max(sum(word(said, one) != "clean" for one in good) / len(good), 0.01)
    blind = recall("null: random verdicts at the same rate of alarms", bad, lambda _: "refused" if draw.random() < rate else "clean")
    yield Row(
        name=blind.name,
        value=blind.value,
        unit="share",
        goal="< 0.95",
        met=blind.value < 0.95,
        n=blind.n,
        interval=blind.interval,
        note=blind.note,
    )
    pickles = [one for one in bad if one.group == "own" and one.pickled and Path(one.path).is_file()]
    caught = sum(_credulous(Path(one.path).read_bytes()) == "refused" for one in pickles)
    low, high = share_interval(caught, len(pickles))
    note = f"{caught} of {len(pickles)} refused where every name is known for every use"
    yield Row(
        name="sabotage: every name is known",
        value=caught / len(pickles),
        unit="share",
        goal="< 0.99",
        met=caught / len(pickles) < 0.99,
        n=len(pickles),
        interval=(low, high),
        note=note,
    )


def _credulous(body: bytes) -> str:
    from vouchgate.scanning.knowledge.entries import Entry
    from vouchgate.scanning.scan import scan

    class Everything:
        version, digest, fault = 1, "0" * 64, ""

        def find(self, module: str, name: str) -> Entry:
            return Entry(module=module, name=name, uses=("inert", "constructible", "callable"), arguments="anything", library="any")

    return scan(body, knowledge=Everything()).outcome


def _peer_rows(files: Sequence[Labelled], said: dict[str, Said], seed: int) -> Iterator[Row]:
    """Of files drawn from all, in random order; a share is of those that the peer gave a word on."""
    drawn = random.Random(seed).sample(files, min(PEER_FILES, len(files)))
    found = peers([one.path for one in drawn])
    for peer, flags in found.items():
        for label, name in (("malicious", "malicious flagged"), ("benign", "honest flagged")):
            words = [flag for one, flag in zip(drawn, flags, strict=True) if one.label == label]
            answered = [flag for flag in words if flag is not None]
            yield Row(
                name=f"{peer}: {name}",
                value=sum(answered) / max(len(answered), 1),
                unit="share",
                n=len(answered),
                interval=share_interval(sum(answered), len(answered)),
                note=f"{sum(answered)} of {len(answered)}; on {len(words) - len(answered)} of {len(words)} it failed or took too long",
            )
    yield recall(
        "vouchgate on the same: malicious refused", [one for one in drawn if one.label == "malicious"], lambda one: word(said, one)
    )
    yield alarms("vouchgate on the same: honest flagged", [one for one in drawn if one.label == "benign"], lambda one: word(said, one))


def _show(count: int, files: Sequence[Labelled], said: dict[str, Said]) -> None:
    wrong = [
        one
        for one in files
        if (one.label == "malicious" and word(said, one) != "refused") or (one.label == "benign" and word(said, one) != "clean")
    ]
    for one in wrong[:count]:
        found = said.get(one.path)
        print(
            f"{one.label} {word(said, one)}: {one.group} {one.technique} {one.path} {found.form if found else ''} {found.rules[:3] if found else ''}"
        )


if __name__ == "__main__":
    sys.exit(main())
