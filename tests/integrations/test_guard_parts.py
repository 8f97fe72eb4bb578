"""A file that is verified tensor by tensor: whatever is done to the file, its manifest or the copy, a tensor that is handed out is the one that was taken in."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

numpy = pytest.importorskip("numpy")
safetensors = pytest.importorskip("safetensors")
from safetensors.numpy import save_file  # noqa: E402

from vouchgate import wiring  # noqa: E402
from vouchgate.evidence.merkle import Manifest, content_digest, manifest_digest, read_manifest, write_manifest  # noqa: E402
from vouchgate.flows.measure import Measuring, measure  # noqa: E402
from vouchgate.integrations import guard_parts  # noqa: E402
from vouchgate.integrations.guard import Guard  # noqa: E402
from vouchgate.integrations.guard_asking import LoadRefused  # noqa: E402
from vouchgate.integrations.guard_opening import SEALS, Opening  # noqa: E402
from vouchgate.integrations.guard_parts import Parts  # noqa: E402
from vouchgate.integrations.guards.safetensors import Parted  # noqa: E402
from vouchgate.vocabulary.digests import Digest  # noqa: E402
from vouchgate.vocabulary.errors import InvalidInput, NotFound, Unverified, VouchgateError  # noqa: E402

TENSORS = {
    "a": numpy.arange(3_000.0).reshape(3, 1_000),
    "b": numpy.arange(7, dtype=numpy.int8),
    "empty": numpy.zeros((0, 4), dtype=numpy.float32),
    "z": numpy.array(5, dtype=numpy.int64),
}
CHUNK = 4_096
"""Several chunks a tensor."""


def parted(path: Path, *, chunk_bytes: int = CHUNK, tensors: bool = True) -> Manifest:
    """Write the manifest of a file beside it, as `vouchgate digest --manifest` does."""
    place = wiring.local_place(str(path))
    manifest = measure(place, Measuring(chunk_bytes=chunk_bytes, tensors=tensors))
    place.close()
    beside(path).write_bytes(write_manifest(manifest))
    return manifest


def beside(path: Path) -> Path:
    return path.with_name(path.name + ".manifest")


class Judge:
    """Allows content, and says which manifest was vouched for with it."""

    def __init__(self, *manifests: Manifest) -> None:
        self.vouched = {content_digest(one).text: manifest_digest(one).text for one in manifests}
        self.asked = 0

    def admit(self, digest: Digest, name: str, library: str) -> str:
        self.asked += 1
        if digest.text not in self.vouched:
            raise LoadRefused("not admitted", remedy="import it")
        return self.vouched[digest.text]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    save_file(TENSORS, path, metadata={"format": "np"})
    return path


def opened(path: Path, judge: Judge) -> Any:
    """As the wrapped `safe_open` gives it."""
    parts = Guard(Opening(), judge).parts(path, "safetensors")
    assert parts is not None
    return Parted(parts, lambda sealed: safetensors.safe_open(sealed, framework="np"))


def equal(one: Any, other: Any) -> bool:
    return one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()


def test_it_answers_as_the_library_does(model: Path) -> None:
    judge = Judge(parted(model))
    with safetensors.safe_open(model, framework="np") as plain, opened(model, judge) as guarded:
        assert guarded.keys() == sorted(plain.keys())
        assert guarded.offset_keys() == plain.offset_keys()
        assert guarded.metadata() == plain.metadata()
        for name, tensor in TENSORS.items():
            assert equal(guarded.get_tensor(name), tensor)
            assert guarded.get_slice(name).get_shape() == plain.get_slice(name).get_shape()
            assert guarded.get_slice(name).get_dtype() == plain.get_slice(name).get_dtype()
        assert guarded.get_slice("a")[1:2, 5:9].tolist() == plain.get_slice("a")[1:2, 5:9].tolist()
        found = guarded.get_tensors()
    assert found.keys() == TENSORS.keys()
    assert all(equal(found[name], tensor) for name, tensor in TENSORS.items())


def place_of(model: Path, name: str) -> int:
    (file,) = read_manifest(beside(model).read_bytes()).files
    return next(part.begin for part in file.parts if part.name == name)


def flip(path: Path, at: int) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)
        file.seek(at)
        file.write(bytes([byte[0] ^ 1]))


def test_one_tensor_is_read_and_verified_and_no_other(model: Path) -> None:
    judge = Judge(parted(model))
    flip(model, place_of(model, "a") + 23_999)
    with opened(model, judge) as guarded:
        assert equal(guarded.get_tensor("b"), TENSORS["b"])
        for call in (lambda: guarded.get_tensor("a"), lambda: guarded.get_slice("a"), guarded.get_tensors):
            with pytest.raises(Unverified, match="tensor `a` is not the one that was taken in"):
                call()


def test_every_byte_of_the_file_belongs_to_something_that_is_verified(model: Path) -> None:
    judge = Judge(parted(model))
    for at in range(model.stat().st_size):
        flip(model, at)
        with pytest.raises(VouchgateError):
            opened(model, judge).get_tensors()
        flip(model, at)
        if at == 400:
            break
    for at in range(400, model.stat().st_size, 977):
        flip(model, at)
        with pytest.raises(VouchgateError):
            opened(model, judge).get_tensors()
        flip(model, at)
    assert opened(model, judge).get_tensors().keys() == TENSORS.keys()


def test_a_file_that_is_written_while_it_is_open(model: Path) -> None:
    judge = Judge(parted(model))
    with opened(model, judge) as guarded:
        kept = guarded.get_tensor("a")
        with model.open("r+b") as file:
            file.seek(place_of(model, "a"))
            file.write(bytes(24_000))
        with pytest.raises(Unverified):
            guarded.get_tensor("a")
        assert equal(kept, TENSORS["a"])
        os.truncate(model, place_of(model, "b") + 1)
        with pytest.raises(Unverified, match="shorter"):
            guarded.get_tensor("b")


def test_a_file_that_takes_its_place_is_another_file(model: Path, tmp_path: Path) -> None:
    judge = Judge(parted(model))
    with opened(model, judge) as guarded:
        save_file({"a": numpy.zeros(3)}, tmp_path / "other")
        (tmp_path / "other").rename(model)
        assert equal(guarded.get_tensor("a"), TENSORS["a"])
    with pytest.raises(Unverified, match="of the length"):
        opened(model, judge)


def test_what_was_revoked_meanwhile_is_not_read_any_more(model: Path) -> None:
    judge = Judge(parted(model))
    with opened(model, judge) as guarded:
        guarded.get_tensor("a")
        judge.vouched.clear()
        with pytest.raises(LoadRefused):
            guarded.get_tensor("a")


def test_a_manifest_of_other_content_is_asked_about_as_that(model: Path, tmp_path: Path) -> None:
    """An attacker's manifest of an admitted file beside bytes of his own, and one of his bytes."""
    admitted = Judge(parted(model))
    evil = tmp_path / "evil.safetensors"
    save_file({name: numpy.zeros_like(tensor) for name, tensor in TENSORS.items()}, evil, metadata={"format": "np"})
    assert evil.stat().st_size == model.stat().st_size
    parted(evil)
    with pytest.raises(LoadRefused):
        opened(evil, admitted)
    beside(evil).write_bytes(beside(model).read_bytes())
    with pytest.raises(Unverified, match="tensor `a`"):
        opened(evil, admitted).get_tensor("a")


def _moved(raw: dict[str, Any]) -> None:
    """Two tensors' names change places."""
    parts = raw["files"][0]["parts"]
    parts[1]["name"], parts[2]["name"] = parts[2]["name"], parts[1]["name"]


def _rehashed(raw: dict[str, Any]) -> None:
    raw["files"][0]["parts"][1]["chunks"][0] = "0" * 64


def _coarser(raw: dict[str, Any]) -> None:
    raw["chunk_bytes"] = CHUNK * 1_000
    for part in raw["files"][0]["parts"]:
        part["chunks"] = part["chunks"][:1]


@pytest.mark.parametrize("change", [_moved, _rehashed, _coarser])
def test_a_manifest_that_is_not_the_vouched_one(model: Path, change: Callable[[dict[str, Any]], None]) -> None:
    judge = Judge(parted(model))
    raw = json.loads(beside(model).read_bytes())
    change(raw)
    beside(model).write_bytes(write_manifest(msgspec.convert(raw, Manifest)))
    with pytest.raises(Unverified, match="not the manifest that was vouched for"):
        opened(model, judge)


def test_a_vouched_manifest_whose_tensors_are_not_the_headers(model: Path) -> None:
    parted(model)
    raw = json.loads(beside(model).read_bytes())
    _moved(raw)
    wrong = msgspec.convert(raw, Manifest)
    beside(model).write_bytes(write_manifest(wrong))
    with pytest.raises(Unverified, match="tensors are not the header's"):
        opened(model, Judge(wrong))


def test_a_manifest_without_tensors_parts_nothing(model: Path) -> None:
    whole = parted(model, tensors=False)
    with pytest.raises(Unverified, match="does not part"):
        opened(model, Judge(whole))


@pytest.mark.parametrize("what", ["garbage", "folder's", "fifo", "huge", "empty"])
def test_what_lies_beside_is_no_manifest(model: Path, tmp_path: Path, what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = beside(model)
    if what == "garbage":
        path.write_bytes(b"{")
    elif what == "folder's":
        (tmp_path / "folder").mkdir()
        (tmp_path / "folder" / "x").write_bytes(b"x")
        parted(tmp_path / "folder")
        beside(tmp_path / "folder").rename(path)
    elif what == "fifo":
        os.mkfifo(path)
    elif what == "huge":
        monkeypatch.setattr(guard_parts, "MAX_MANIFEST_BYTES", 10)
        parted(model)
    else:
        path.touch()
    with pytest.raises(InvalidInput):
        Parts.of(model, lambda _: "")


def test_without_a_manifest_or_a_vouch_for_one_the_whole_file_is_verified(model: Path) -> None:
    assert Parts.of(model, lambda _: pytest.fail("nothing to ask")) is None
    parted(model)
    assert Parts.of(model, lambda _: "") is None


def test_names_and_closing(model: Path) -> None:
    guarded = opened(model, Judge(parted(model)))
    with guarded, pytest.raises(NotFound, match="no tensor `c`"):
        guarded.get_tensor("c")
    with pytest.raises(InvalidInput, match="closed"):
        guarded.get_tensor("a")
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(50):
        with opened(model, Judge(parted(model))) as one:
            one.get_tensor("a")
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_who_writes_into_the_copy_before_it_is_sealed(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process of the same user finds the copy under /proc: neither our header nor the tensors can be changed unseen."""
    judge, copy, writers = Judge(parted(model)), guard_parts.copy_range, []
    for at in (10, -1):

        def attacked(source: int, target: int, begin: int, size: int, at: int = at) -> int:
            moved = copy(source, target, begin, size)
            writers.append(os.open(f"/proc/self/fd/{target}", os.O_RDWR))
            os.pwrite(writers[-1], b"?", at if at > 0 else os.fstat(target).st_size + at)
            return moved

        monkeypatch.setattr(guard_parts, "copy_range", attacked)
        with opened(model, judge) as guarded, pytest.raises(Unverified):
            guarded.get_tensor("a")
        with pytest.raises(PermissionError):
            os.pwrite(writers[-1], b"?", 0)
    for one in writers:
        os.close(one)


def test_what_is_handed_to_the_library_is_sealed(model: Path) -> None:
    import fcntl

    parts = Guard(Opening(), Judge(parted(model))).parts(model, "safetensors")
    assert parts is not None
    descriptor = parts.sealed(["a", "a", "b"])
    assert fcntl.fcntl(descriptor, fcntl.F_GET_SEALS) & SEALS == SEALS
    with safetensors.safe_open(f"/proc/self/fd/{descriptor}", framework="np") as file:
        assert sorted(file.keys()) == ["a", "b"]
    os.close(descriptor)
    parts.close()


# --- shards of a folder -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    """A folder of two shards, one of them below, with its manifest beside it."""
    folder = tmp_path / "model"
    (folder / "unet").mkdir(parents=True)
    save_file(TENSORS, folder / "a.safetensors")
    save_file({"other": numpy.arange(9.0)}, folder / "unet" / "b.safetensors")
    (folder / "config.json").write_text("{}")
    return folder


def test_a_shard_is_verified_alone_and_the_folder_is_asked_about(shards: Path) -> None:
    manifest = parted(shards)
    judge = Judge(manifest)
    assert content_digest(manifest).kind == "tree"
    with opened(shards / "unet" / "b.safetensors", judge) as one:
        (shards / "a.safetensors").write_bytes(b"evil")
        assert equal(one.get_tensor("other"), numpy.arange(9.0)) and judge.asked == 2
    with pytest.raises(Unverified):
        opened(shards / "a.safetensors", judge)


def test_a_shard_in_the_place_of_another_is_refused(shards: Path) -> None:
    judge = Judge(parted(shards))
    (shards / "a.safetensors").unlink()
    (shards / "a.safetensors").symlink_to(shards / "unet" / "b.safetensors")
    with pytest.raises(VouchgateError):
        opened(shards / "a.safetensors", judge)


@pytest.mark.parametrize("at", [0, 12, -1])
def test_a_changed_byte_of_a_shard_is_never_handed_out(shards: Path, at: int) -> None:
    judge, path = Judge(parted(shards)), shards / "unet" / "b.safetensors"
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)
    with pytest.raises((Unverified, NotFound)):
        opened(path, judge).get_tensor("other")


def test_the_manifest_of_another_folder_is_refused_before_a_byte_is_read(shards: Path) -> None:
    judge = Judge(parted(shards))
    save_file({"other": numpy.zeros(9)}, shards / "unet" / "b.safetensors")
    parted(shards)
    with pytest.raises(LoadRefused):
        opened(shards / "unet" / "b.safetensors", judge)


def test_a_manifest_that_was_rewritten_for_the_same_content_is_not_the_one_vouched_for(shards: Path) -> None:
    judge = Judge(parted(shards))
    parted(shards, chunk_bytes=CHUNK // 2)
    with pytest.raises(Unverified, match="not the manifest that was vouched for"):
        opened(shards / "a.safetensors", judge)


def test_a_file_that_the_folders_manifest_does_not_have_is_verified_whole(shards: Path) -> None:
    judge = Judge(parted(shards))
    save_file(TENSORS, shards / "new.safetensors")
    assert Guard(Opening(), judge).parts(shards / "new.safetensors", "safetensors") is None and judge.asked == 0


def test_the_nearest_manifest_counts_and_those_far_above_are_not_looked_for(shards: Path, tmp_path: Path) -> None:
    own = parted(shards / "a.safetensors")
    beside(tmp_path).unlink(missing_ok=True)
    judge = Judge(own)
    assert opened(shards / "a.safetensors", judge).keys() == sorted(TENSORS)
    deep = tmp_path.joinpath("m", *("d" * 5))
    deep.mkdir(parents=True)
    save_file(TENSORS, deep / "x.safetensors")
    assert Guard(Opening(), Judge(parted(tmp_path / "m"))).parts(deep / "x.safetensors", "safetensors") is None


def test_steps_back_in_a_path_find_the_same_manifest(shards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    judge = Judge(parted(shards))
    monkeypatch.chdir(shards / "unet")
    assert opened(Path("../a.safetensors"), judge).keys() == sorted(TENSORS)


def test_a_folder_that_is_no_longer_vouched_for_ends_the_reading(shards: Path) -> None:
    judge = Judge(parted(shards))
    with opened(shards / "a.safetensors", judge) as one:
        judge.vouched.clear()
        with pytest.raises(LoadRefused):
            one.get_tensor("a")


def test_what_lies_beside_the_folder_and_is_no_manifest_is_refused(shards: Path) -> None:
    beside(shards).write_bytes(b"{")
    with pytest.raises(InvalidInput):
        Parts.of(shards / "a.safetensors", lambda _: "")
