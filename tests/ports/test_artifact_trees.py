"""Folders in the content store: taken in as a stream, whole or not at all, and never served with other bytes than were taken in."""

from __future__ import annotations

import os
import resource
import signal
import struct
import sys
from pathlib import Path
from subprocess import PIPE, Popen

import pytest

from vouchgate.ports.artifact_trees import MANIFEST, Manifest
from vouchgate.ports.artifacts import ArtifactStore
from vouchgate.vocabulary import tree_frames
from vouchgate.vocabulary.digests import Digest, file_digest, tree_digest
from vouchgate.vocabulary.errors import InvalidInput, LimitExceeded, NotFound, StoreDamaged, Unavailable
from vouchgate.vocabulary.tree_frames import END, MAGIC, head
from vouchgate.vocabulary.wire import decode, encode

FILES = {b"config.json": b"{}", b"deep/er/model.safetensors": b"\x02\0\0\0\0\0\0\0{}", b"empty": b"", b"same": b"{}"}


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    (tmp_path / "artifacts").mkdir(mode=0o700)
    return ArtifactStore(tmp_path / "artifacts", max_bytes=1 << 20, reserve_bytes=0)


def stream(files: dict[bytes, bytes]) -> bytes:
    """As an importer sends it."""
    return MAGIC + b"".join(head(path, len(content)) + content for path, content in sorted(files.items())) + END


def source(tmp_path: Path, content: bytes) -> int:
    (tmp_path / "stream").write_bytes(content)
    return os.open(tmp_path / "stream", os.O_RDONLY)


def left(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in (tmp_path / "artifacts").iterdir() if path.name != ".notes")


def keep(store: ArtifactStore, tmp_path: Path, files: dict[bytes, bytes] = FILES) -> tuple[Path, Digest]:
    staged = store.stage_tree(source(tmp_path, stream(files)))
    return store.keep(staged), staged.digest


def test_a_folder_is_kept_whole_and_each_file_is_hashed_when_it_is_opened(store: ArtifactStore, tmp_path: Path) -> None:
    path, digest = keep(store, tmp_path)
    assert digest == tree_digest((name, file_digest(content)) for name, content in FILES.items())
    assert left(tmp_path) == [f"tree-{digest.value}"]
    assert store.has(digest)
    assert {one.stat().st_mode & 0o777 for one in path.iterdir() if one.name != "named"} == {0o444}
    tree = store.open_tree(digest)
    assert {file.path: os.pread(tree.open(file), 100, 0) for file in tree.manifest.files} == FILES
    tree.close()
    tree.close()


def test_the_same_folder_twice_is_kept_once_and_a_damaged_one_is_mended(store: ArtifactStore, tmp_path: Path) -> None:
    path, digest = keep(store, tmp_path)
    bad = path / file_digest(b"{}").value
    bad.chmod(0o600)
    bad.write_bytes(b"[]")
    tree = store.open_tree(digest)
    with pytest.raises(StoreDamaged):
        tree.open(tree.manifest.files[0])
    tree.open(tree.manifest.files[1])
    keep(store, tmp_path)
    assert left(tmp_path) == [path.name]
    tree = store.open_tree(digest)
    assert os.pread(tree.open(tree.manifest.files[0]), 2, 0) == b"{}"


def changed(manifest: Manifest, how: str) -> bytes:
    """A manifest that somebody wrote to."""
    first, *others = manifest.files
    tampered = {
        "other path": [tree_file(first, path=b"other.json"), *others],
        "way out": [tree_file(first, path=b"../config.json"), *others],
        "other content": [tree_file(first, digest=file_digest(b"evil")), *others],
        "no digest": [tree_file(first, digest=Digest(value="../../etc/passwd")), *others],
        "fewer": others,
    }
    return b"{" if how == "broken" else encode(Manifest(files=tuple(tampered[how])))


def tree_file(file: object, **changes: object) -> object:
    import msgspec

    return msgspec.structs.replace(file, **changes)  # type: ignore[type-var]


@pytest.mark.parametrize("how", ["other path", "way out", "other content", "no digest", "fewer", "broken"])
def test_a_manifest_that_was_written_to_opens_nothing(how: str, store: ArtifactStore, tmp_path: Path) -> None:
    path, digest = keep(store, tmp_path)
    manifest = path / MANIFEST
    content = changed(decode(Manifest, manifest.read_bytes(), what="manifest"), how)
    manifest.chmod(0o600)
    manifest.write_bytes(content)
    with pytest.raises(StoreDamaged):
        store.open_tree(digest)


def test_a_link_in_place_of_a_file_or_folder_is_not_followed(store: ArtifactStore, tmp_path: Path) -> None:
    path, digest = keep(store, tmp_path)
    one = path / file_digest(b"{}").value
    (tmp_path / "outside").write_bytes(b"{}")
    one.unlink()
    one.symlink_to(tmp_path / "outside")
    tree = store.open_tree(digest)
    with pytest.raises(StoreDamaged):
        tree.open(tree.manifest.files[0])
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(NotFound):
        store.open_tree(digest)


def raw(path: bytes, content: bytes = b"x") -> bytes:
    return struct.pack("!I", len(path)) + path + struct.pack("!Q", len(content)) + content


BAD = {
    "no magic": b"x" + stream(FILES),
    "nothing in it": MAGIC + END,
    "nothing at all": b"",
    "absolute": MAGIC + raw(b"/etc/passwd") + END,
    "way out": MAGIC + raw(b"a/../../b") + END,
    "this folder": MAGIC + raw(b"./a") + END,
    "empty part": MAGIC + raw(b"a//b") + END,
    "folder": MAGIC + raw(b"a/") + END,
    "backslash": MAGIC + raw(b"a\\b") + END,
    "NUL": MAGIC + raw(b"a\0b") + END,
    "twice": MAGIC + raw(b"a") + raw(b"a") + END,
    "out of order": MAGIC + raw(b"b") + raw(b"a") + END,
    "file and folder": MAGIC + raw(b"a") + raw(b"a/b") + END,
    "file and folder apart": MAGIC + raw(b"a") + raw(b"a-b") + raw(b"a/b/c") + END,
    "deep": MAGIC + raw(b"/".join([b"a"] * 65)) + END,
    "long path": MAGIC + struct.pack("!I", 1 << 31) + b"a" * 100,
    "no size": MAGIC + struct.pack("!I", 1) + b"a" + struct.pack("!Q", 2**63) + END,
    "behind the end": stream(FILES) + b"x",
    "no end": stream(FILES)[: -len(END)],
    "half": stream(FILES)[: len(stream(FILES)) // 2],
    "size lies": MAGIC + head(b"a", 1000) + b"x" * 10 + END,
}


@pytest.mark.parametrize("how", BAD)
def test_a_stream_that_is_no_folder_leaves_nothing(how: str, store: ArtifactStore, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput):
        store.stage_tree(source(tmp_path, BAD[how]))
    assert left(tmp_path) == []


def test_every_cut_of_a_stream_leaves_nothing(store: ArtifactStore, tmp_path: Path) -> None:
    whole = stream(FILES)
    for cut in range(len(whole)):
        with pytest.raises(InvalidInput):
            store.stage_tree(source(tmp_path, whole[:cut]))
    assert left(tmp_path) == []


def test_bounds_of_count_and_bytes(store: ArtifactStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tree_frames, "MAX_TREE_FILES", 50)
    many = {b"%06d" % number: b"" for number in range(51)}
    with pytest.raises(LimitExceeded):
        store.stage_tree(source(tmp_path, stream(many)))
    with pytest.raises(LimitExceeded):
        store.stage_tree(source(tmp_path, stream({b"a": bytes(1 << 20), b"b": b"x"})))
    assert left(tmp_path) == []


def test_a_hundred_thousand_files_are_refused_at_the_bound(tmp_path: Path) -> None:
    paths = tree_frames.Paths()
    with pytest.raises(LimitExceeded):
        for number in range(100_000):
            paths.take(b"%06d" % number)


def test_a_full_disk_leaves_nothing(store: ArtifactStore, tmp_path: Path) -> None:
    descriptor = source(tmp_path, stream({b"a": bytes(500_000)}))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(Unavailable):
            store.stage_tree(descriptor)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    assert left(tmp_path) == []


KILLED = """
import os, sys
from pathlib import Path
from vouchgate.ports import artifact_trees, artifacts
step = int(sys.argv[3])
def count(name, real):
    def counted(*arguments, **named):
        global step
        step -= 1
        if step == 0:
            os.kill(os.getpid(), 9)
        return real(*arguments, **named)
    setattr(os, name, counted)
for name in ("open", "write", "fsync", "rename", "fchmod", "mkdir"):
    count(name, getattr(os, name))
store = artifacts.ArtifactStore(Path(sys.argv[1]), reserve_bytes=0)
store.keep(store.stage_tree(os.open(sys.argv[2], os.O_RDONLY)))
print("kept")
"""


def test_killed_at_any_step_nothing_half_is_left(store: ArtifactStore, tmp_path: Path) -> None:
    (tmp_path / "stream").write_bytes(stream({b"a.json": b"{}", b"b.json": b"[]"}))
    name = f"tree-{tree_digest([(b'a.json', file_digest(b'{}')), (b'b.json', file_digest(b'[]'))]).value}"
    ends = []
    for step in (1, 2, 4, 7, 10, 12, 14, 16, 18, 20, 22, 1000):
        arguments = [sys.executable, "-c", KILLED, str(tmp_path / "artifacts"), str(tmp_path / "stream"), str(step)]
        with Popen(arguments, stdout=PIPE) as process:
            said, _ = process.communicate()
        ends.append(said)
        store.sweep()
        assert left(tmp_path) in ([], [name])
        if left(tmp_path):
            tree = store.open_tree(Digest(value=name[5:], kind="tree"))
            assert [os.pread(tree.open(file), 9, 0) for file in tree.manifest.files] == [b"{}", b"[]"]
    assert ends[0] == b""
    assert ends[-1] == b"kept\n"
