"""A store that loaders read: what the store wrote is loaded without a copy and, once, without a hash; whatever was touched since is hashed."""

from __future__ import annotations

import hashlib
import os
import shutil
import socket
import stat
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from vouchgate.integrations import guard_kernel, guard_opening, guard_store
from vouchgate.integrations.guard import Guard
from vouchgate.integrations.guard_asking import ControlPlane
from vouchgate.integrations.guard_opening import Opening
from vouchgate.integrations.guard_store import Store, Stores
from vouchgate.ports.artifacts import ArtifactStore
from vouchgate.vocabulary.digests import Digest, file_digest, tree_digest
from vouchgate.vocabulary.errors import InvalidInput, NotFound, Unavailable
from vouchgate.vocabulary.stored import note_path
from vouchgate.vocabulary.tree_frames import END, MAGIC, head

KEEPER = 61_234
"""Uid of the store's owner and of the control plane: nobody on the machine."""
GOOD, EVIL = b"good" * 5_000, b"evil" * 5_000
FILES = {b"config.json": b"{}", b"deep/model.bin": GOOD, b"same": b"{}"}

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can write as another user")


@pytest.fixture
def folder() -> Iterator[Path]:
    """The store's folder as an installation makes it for readers, where other users get to (pytest's own folder is closed to them)."""
    house = Path(tempfile.mkdtemp(prefix="vg", dir="/tmp"))
    house.chmod(0o711)
    made = house / "artifacts"
    made.mkdir()
    made.chmod(0o711)
    os.chown(made, KEEPER, KEEPER)
    yield made
    shutil.rmtree(house)


def kept(folder: Path, data: bytes = GOOD) -> Path:
    """A file taken in by the real store, under the keeper's uid."""
    os.seteuid(KEEPER)
    try:
        store = ArtifactStore(folder, reserve_bytes=0)
        source = os.memfd_create("source")
        os.write(source, data)
        path = store.keep(store.stage(source))
        os.close(source)
    finally:
        os.seteuid(0)
    return path


def kept_tree(folder: Path, files: dict[bytes, bytes]) -> Path:
    os.seteuid(KEEPER)
    try:
        store = ArtifactStore(folder, reserve_bytes=0)
        source = os.memfd_create("source")
        os.write(source, MAGIC + b"".join(head(path, len(data)) + data for path, data in sorted(files.items())) + END)
        path = store.keep(store.stage_tree(source))
        os.close(source)
    finally:
        os.seteuid(0)
    return path


def opening(folder: Path, decider: int = KEEPER) -> Opening:
    return Opening((Store(folder, frozenset({KEEPER})),), decider=lambda: decider)


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Sizes of what was hashed by the guard."""
    done: list[int] = []
    real = guard_opening._hash

    def counting(descriptor: int, size: int) -> Digest:
        done.append(size)
        return real(descriptor, size)

    monkeypatch.setattr(guard_opening, "_hash", counting)
    return done


def opened(folder: Path, path: Path, decider: int = KEEPER) -> tuple[str, bytes]:
    """(how, bytes) of an opening of its own, as another process makes it; the digest is that of the bytes."""
    with opening(folder, decider).open(path) as one, one.reader() as reader:
        data = reader.read()
        assert one.digest == Digest(value=hashlib.sha256(data).hexdigest(), size=len(data))
        return one.how, data


def test_a_process_that_never_hashed_relies_on_the_keepers_note(folder: Path, hashed: list[int]) -> None:
    path = kept(folder)
    assert opened(folder, path) == ("store", GOOD)
    assert hashed == []


@pytest.mark.parametrize("decider", [-1, KEEPER + 1, 0])
def test_a_keeper_who_does_not_decide_is_not_believed(folder: Path, hashed: list[int], decider: int) -> None:
    assert opened(folder, kept(folder), decider) == ("store", GOOD)
    assert hashed == [len(GOOD)]


def _written(path: Path) -> None:
    """As root: in place, same length, times set back."""
    before = path.stat()
    with path.open("r+b") as file:
        file.write(EVIL)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def _replaced(path: Path) -> None:
    before = path.stat()
    new = path.with_name("new")
    new.write_bytes(EVIL)
    new.chmod(0o444)
    os.chown(new, KEEPER, KEEPER)
    os.utime(new, ns=(before.st_atime_ns, before.st_mtime_ns))
    new.rename(path)


def _exchanged_inodes(path: Path) -> None:
    """The note of the good file is put in the place of the other one's."""
    _replaced(path)
    other = note_path(path.parent, path.stat().st_ino)
    good = next(one for one in other.parent.iterdir())
    good.rename(other)


def _mapped(path: Path) -> None:
    """Through a mapping that was writable before."""
    import mmap

    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as mapped:
        mapped[: len(EVIL)] = EVIL
        mapped.flush()


@pytest.mark.parametrize("attack", [_written, _replaced, _exchanged_inodes, _mapped])
def test_what_was_touched_since_is_hashed(folder: Path, hashed: list[int], attack: object) -> None:
    path = kept(folder)
    attack(path)  # type: ignore[operator]
    assert opened(folder, path)[1] == EVIL
    assert hashed == [len(EVIL)]


def _touched(path: Path) -> None:
    os.utime(path)


def _linked(path: Path) -> None:
    os.link(path, path.with_name("other"))


def _mode(path: Path) -> None:
    path.chmod(0o440)


def _note(path: Path) -> Path:
    return note_path(path.parent, path.stat().st_ino)


def _cut(path: Path) -> None:
    os.truncate(_note(path), 50)


def _grown(path: Path) -> None:
    _note(path).write_bytes(_note(path).read_bytes() + b" " * 2_000 + b"x")


def _foreign_note(path: Path) -> None:
    os.chown(_note(path), KEEPER + 1, 0)


def _roots_note(path: Path) -> None:
    os.chown(_note(path), 0, 0)


def _writable_note(path: Path) -> None:
    _note(path).chmod(0o664)


def _writable_notes(path: Path) -> None:
    _note(path).parent.chmod(0o777)


def _linked_note(path: Path) -> None:
    _note(path).rename(path.parent / "aside")
    _note(path).symlink_to(path.parent / "aside")


def _no_hash(path: Path) -> None:
    _note(path).write_bytes(_note(path).read_bytes().replace(hashlib.sha256(GOOD).hexdigest().encode(), b"Z" * 64))


def _absent(path: Path) -> None:
    _note(path).unlink()


@pytest.mark.parametrize(
    "spoil",
    [
        _touched, _linked, _mode, _cut, _grown, _foreign_note, _roots_note, _writable_note, _writable_notes, _linked_note, _no_hash, _absent,
    ],
)  # fmt: skip
def test_a_note_that_does_not_fit_is_no_note(folder: Path, hashed: list[int], spoil: object) -> None:
    path = kept(folder)
    spoil(path)  # type: ignore[operator]
    assert opened(folder, path) == ("store", GOOD)
    assert hashed == [len(GOOD)]


def test_a_note_on_another_filesystem_is_about_another_file(folder: Path, hashed: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    path = kept(folder)
    real = os.fstat
    about = _note(path).stat().st_ino

    def moved(descriptor: int) -> os.stat_result:
        facts = real(descriptor)
        return os.stat_result([*facts[:2], facts.st_dev + 1, *facts[3:10]]) if facts.st_ino == about else facts

    monkeypatch.setattr(guard_store.os, "fstat", moved)
    assert opened(folder, path) == ("store", GOOD)
    assert hashed == [len(GOOD)]


def test_a_number_that_is_used_again_has_no_note(folder: Path) -> None:
    path = kept(folder)
    inode = path.stat().st_ino
    source = os.memfd_create("source")
    os.write(source, EVIL)
    store = ArtifactStore(folder, reserve_bytes=0)
    store._notes.forget(os.open(path, os.O_RDONLY))
    assert not note_path(folder, inode).exists()
    staged = store.stage(source)
    assert not note_path(folder, os.fstat(staged.descriptor).st_ino).exists()
    store.drop(staged)


def test_a_file_server_that_speaks_for_itself_is_no_store(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = kept(folder)
    monkeypatch.setattr(guard_store, "filesystem_kind", lambda _: 0x65735546)
    assert opened(folder, path) == ("sealed", GOOD)


def test_a_uid_that_stands_for_many_owns_no_store(folder: Path, hashed: list[int]) -> None:
    """In a user namespace the keeper and everybody else who is not mapped look the same."""
    path = kept(folder)
    for one in (folder, path, _note(path), _note(path).parent):
        os.chown(one, guard_store.NOBODY, 0)
    stores = Opening((Store(folder, frozenset({guard_store.NOBODY})),), decider=lambda: guard_store.NOBODY)
    with stores.open(path) as one:
        assert one.how == "sealed"


def test_a_store_seen_from_a_user_namespace_that_knows_root_alone_is_copied(folder: Path) -> None:
    path = kept(folder)
    program = (
        "import sys; from pathlib import Path\n"
        "from vouchgate.integrations.guard_opening import Opening\n"
        "from vouchgate.integrations.guard_store import Store\n"
        "folder, path = map(Path, sys.argv[1:])\n"
        "owner = path.stat().st_uid\n"
        "with Opening((Store(folder, frozenset({owner})),), decider=lambda: owner).open(path) as one: print(owner, one.how)\n"
    )
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", sys.executable, "-c", program, str(folder), str(path)],
        check=False, capture_output=True, text=True, timeout=60, env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )  # fmt: skip
    if "unshare failed" in done.stderr:
        pytest.skip(f"no user namespaces here: {done.stderr.strip()}")
    assert done.stdout.split() == [str(guard_store.NOBODY), "sealed"], done.stderr


def test_a_kernels_own_filesystem_is_known_by_its_kind(folder: Path) -> None:
    descriptor = os.open(kept(folder), os.O_RDONLY)
    assert guard_kernel.filesystem_kind(descriptor) in guard_store._OWN_FILESYSTEMS
    os.close(descriptor)


@pytest.fixture
def loader() -> Iterator[None]:
    """What the loader's own uid sees; /proc is root's meanwhile, so nothing is read here."""
    os.seteuid(KEEPER + 2)
    yield
    os.seteuid(0)


def said(folder: Path, path: Path) -> str | None:
    """The noted hash, as a loader of another uid than root's finds it; None where it is no file of the store."""
    stores = Stores((Store(folder, frozenset({KEEPER})),), lambda: KEEPER)
    found = stores.open(str(path))
    if found is None:
        return None
    try:
        return stores.noted(found[0], found[1]) or "hashed"
    finally:
        os.close(found[0])


def test_roots_files_and_roots_notes_are_not_the_keepers(folder: Path, request: pytest.FixtureRequest) -> None:
    path, other = kept(folder), kept(folder, EVIL)
    _roots_note(path)
    os.chown(other, 0, 0)
    descriptor = os.open(other, os.O_RDONLY)
    os.seteuid(KEEPER)
    ArtifactStore(folder)._notes.write(descriptor, hashlib.sha256(GOOD).hexdigest())
    os.seteuid(0)
    os.close(descriptor)
    third = kept(folder, b"third")
    request.getfixturevalue("loader")
    assert (said(folder, path), said(folder, other)) == ("hashed", "hashed")
    assert said(folder, third) == hashlib.sha256(b"third").hexdigest()


def test_an_open_file_is_not_taken_for_another_one_by_its_name(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good, evil = kept(folder), kept(folder, EVIL)
    monkeypatch.setattr(guard_store.Path, "readlink", lambda _: good)
    with evil.open("rb") as file, opening(folder).of_descriptor(file.fileno()) as one, one.reader() as reader:
        assert (one.how, reader.read()) == ("sealed", EVIL)


def test_who_may_enter_may_read_whatever_the_keepers_mask(folder: Path) -> None:
    mask = os.umask(0o077)
    try:
        file, tree = kept(folder), kept_tree(folder, FILES)
    finally:
        os.umask(mask)
    modes = {
        one.relative_to(folder): stat.S_IMODE(one.stat().st_mode) for one in (file, tree, *tree.rglob("*"), _note(file), _note(file).parent)
    }
    folders = {name for name in modes if (folder / name).is_dir()}
    assert {modes[name] for name in modes.keys() - folders} == {0o444}
    assert {str(name.name): modes[name] for name in folders} == {tree.name: 0o711, "named": 0o755, "deep": 0o755, ".notes": 0o711}


def test_what_was_kept_unreadable_is_mended_when_the_store_starts(folder: Path) -> None:
    file, tree = kept(folder), kept_tree(folder, FILES)
    file.chmod(0o400)
    shutil.rmtree(tree / "named")
    for one in tree.iterdir():
        one.chmod(0o400)
    tree.chmod(0o700)
    os.seteuid(KEEPER)
    try:
        ArtifactStore(folder).sweep()
    finally:
        os.seteuid(0)
    assert stat.S_IMODE(file.stat().st_mode) == 0o444
    assert (tree / "named" / "deep" / "model.bin").read_bytes() == GOOD
    assert stat.S_IMODE(tree.stat().st_mode) == 0o711
    assert {stat.S_IMODE(one.stat().st_mode) for one in tree.iterdir() if one.is_file()} == {0o444}


def test_inside_a_view_of_the_store_only_the_views_own_files_are_known(folder: Path, tmp_path: Path) -> None:
    kept_tree(folder, FILES)
    digest = tree_digest((name, file_digest(data)) for name, data in FILES.items())
    asked: list[str] = []

    class Asked(_Everything):
        def admit(self, digest: Digest, name: str, library: str) -> str:
            asked.append(digest.value)
            return ""

    guard = Guard(opening(folder), Asked())
    (tmp_path / "evil").write_bytes(EVIL)
    with guard.folder(guard.path(digest.text), "transformers") as view:
        inside = view.path("deep/model.bin")
        asked.clear()
        with guard.file(inside, "torch") as one, one.reader() as reader:
            assert (one.known, reader.read()) == (True, GOOD)
        with Path(inside).open("rb") as file, guard.stream(file, "torch") as reader:
            assert reader.read() == GOOD
        assert asked == []
        with open(inside, "rb", opener=lambda _, flags: os.open(tmp_path / "evil", flags)) as file, guard.stream(file, "torch") as reader:
            assert reader.read() == EVIL
        assert asked == [hashlib.sha256(EVIL).hexdigest()]
        Path(inside).unlink()
        Path(inside).symlink_to(tmp_path / "evil")
        with guard.file(inside, "torch") as one, one.reader() as reader:
            assert reader.read() == GOOD
        Path(view.path("more")).write_bytes(EVIL)
        guard.file(view.path("more"), "torch").close()
        assert asked == [hashlib.sha256(EVIL).hexdigest()] * 2
    asked.clear()
    with pytest.raises(NotFound):
        guard.file(inside, "torch")


def test_a_kept_folder_is_not_read_tensor_by_tensor(folder: Path) -> None:
    kept_tree(folder, {**FILES, b"deep/model.bin.manifest": b"{"})
    digest = tree_digest((name, file_digest(data)) for name, data in {**FILES, b"deep/model.bin.manifest": b"{"}.items())
    guard = Guard(opening(folder), _Everything())
    with guard.folder(guard.path(digest.text), "transformers") as view:
        assert guard.parts(view.path("deep/model.bin"), "safetensors") is None


def test_a_folder_is_read_by_its_own_names_without_a_hash(folder: Path, hashed: list[int]) -> None:
    kept_tree(folder, FILES)
    digest = tree_digest((name, file_digest(data)) for name, data in FILES.items())
    guard = Guard(opening(folder), _Everything())
    place = guard.path(digest.text)
    assert place.name == "named"
    assert sorted(str(one.relative_to(place)) for one in place.rglob("*") if one.is_file()) == ["config.json", "deep/model.bin", "same"]
    with guard.folder(place, "transformers") as view:
        assert view.digest == digest
        assert Path(view.path("deep/model.bin")).read_bytes() == GOOD
    assert hashed == []


def test_a_file_that_is_added_to_a_kept_folder_changes_its_digest(folder: Path, hashed: list[int]) -> None:
    kept_tree(folder, FILES)
    digest = tree_digest((name, file_digest(data)) for name, data in FILES.items())
    guard = Guard(opening(folder), _Everything())
    (guard.path(digest.text) / "deep" / "more.bin").write_bytes(EVIL)
    with guard.folder(guard.path(digest.text), "transformers") as view:
        assert view.digest != digest
    assert hashed == [len(EVIL)]
    assert view.digest == tree_digest((name, file_digest(data)) for name, data in {**FILES, b"deep/more.bin": EVIL}.items())


def test_a_folder_with_names_that_this_disk_cannot_have_is_kept_without_them(folder: Path) -> None:
    files = {b"x" * 300: b"{}"}
    path = kept_tree(folder, files)
    assert not (path / "named").exists()
    with pytest.raises(NotFound, match="in no store"):
        Stores((Store(folder, frozenset({KEEPER})),)).path(tree_digest((name, file_digest(data)) for name, data in files.items()))


def test_an_open_file_of_the_store_needs_no_copy_and_another_one_does(folder: Path, hashed: list[int], tmp_path: Path) -> None:
    path = kept(folder)
    with path.open("rb") as file, opening(folder).of_descriptor(file.fileno()) as one:
        assert (one.how, one.digest.value) == ("store", hashlib.sha256(GOOD).hexdigest())
    assert hashed == []
    with path.open("rb") as file:
        _replaced(path)
        with opening(folder).of_descriptor(file.fileno()) as one, one.reader() as reader:
            assert (one.how, reader.read()) == ("sealed", GOOD)
    (tmp_path / "else").write_bytes(EVIL)
    with (tmp_path / "else").open("rb") as file, opening(folder).of_descriptor(file.fileno()) as one:
        assert one.how == "sealed"


def test_a_name_that_turns_between_two_files_is_the_one_or_the_other(folder: Path) -> None:
    good, evil = kept(folder), kept(folder, EVIL)
    name = folder / "turning"
    for turn in range(100):
        os.link((good, evil)[turn % 2], folder / "next")
        (folder / "next").rename(name)
        assert opened(folder, name)[1] == (GOOD, EVIL)[turn % 2]


def test_a_digest_that_was_not_imported_or_is_none(folder: Path) -> None:
    stores = Stores((Store(folder, frozenset({KEEPER})),))
    with pytest.raises(NotFound, match="in no store that this user may read"):
        stores.path(file_digest(b"absent"))
    with pytest.raises(InvalidInput):
        stores.path(Digest(value="../" * 21 + "x", kind="file"))
    with pytest.raises(InvalidInput):
        stores.path(Digest(value="0" * 64, kind="composite"))


class _Everything:
    def admit(self, digest: Digest, name: str, library: str) -> str:
        return ""


# -- who decides


def listening(path: Path, uid: int) -> socket.socket:
    """A socket that another uid listens at."""
    made = socket.socket(socket.AF_UNIX)
    made.bind(str(path))
    os.seteuid(uid)
    try:
        made.listen()
    finally:
        os.seteuid(0)
    return made


def test_the_kernel_says_who_decides(tmp_path: Path) -> None:
    path = tmp_path / "api.sock"
    with listening(path, KEEPER):
        control = ControlPlane(path)
        assert control.user() == KEEPER
    assert control.user() == KEEPER
    assert ControlPlane(tmp_path / "absent").user() == -1


def test_another_uid_at_the_socket_is_not_heard(tmp_path: Path) -> None:
    path = tmp_path / "api.sock"
    with listening(path, KEEPER):
        control = ControlPlane(path)
        control.user()
    path.unlink()
    with listening(path, KEEPER + 1), pytest.raises(Unavailable, match=f"uid {KEEPER + 1} answers .* it was {KEEPER} before"):
        control.serving(file_digest(GOOD))


def test_the_peers_uid_is_read_as_the_kernel_lays_it_out(tmp_path: Path) -> None:
    one, other = socket.socketpair(socket.AF_UNIX)
    with one, other:
        assert struct.unpack("3i", one.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)) == (os.getpid(), 0, 0)
