"""Views: folders of verified bytes under names, whole, with nothing else in them, and given back."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from vouchgate.integrations import guard_views
from vouchgate.integrations.guard_opening import Opening
from vouchgate.integrations.guard_views import View
from vouchgate.vocabulary.digests import file_digest, tree_digest
from vouchgate.vocabulary.errors import InvalidInput, LimitExceeded, Unsupported, Unverified


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "model"
    (made / "deep/er").mkdir(parents=True)
    for name in ("config.json", ".hidden", "deep/a.bin", "deep/er/b.bin"):
        (made / name).write_bytes(name.encode())
    return made


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def expected(folder: Path) -> str:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return tree_digest((bytes(path.relative_to(folder)), file_digest(path.read_bytes())) for path in files).text


def test_a_folder_is_taken_whole_and_stays_as_it_was(folder: Path) -> None:
    before = descriptors()
    with View.of_folder(Opening(), folder) as view:
        assert view.digest.text == expected(folder)
        (folder / "config.json").write_bytes(b"evil")
        (folder / "deep/a.bin").unlink()
        (folder / "added").write_bytes(b"evil")
        names = sorted(str(path.relative_to(view.folder)) for path in view.folder.rglob("*") if path.is_file())
        assert names == [".hidden", "config.json", "deep/a.bin", "deep/er/b.bin"]
        assert all(Path(view.path(name)).read_bytes() == name.encode() for name in names)
        assert view.folder.stat().st_mode & 0o777 == 0o700
        view.check()
    assert not view.folder.exists()
    assert descriptors() == before
    view.close()


def test_a_link_to_a_file_is_that_file_wherever_it_leads(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "blob").write_bytes(b"weights")
    (folder / "model.safetensors").symlink_to(tmp_path / "blob")
    with View.of_folder(Opening(), folder) as view:
        (tmp_path / "blob").write_bytes(b"evil")
        assert Path(view.path("model.safetensors")).read_bytes() == b"weights"


@pytest.mark.parametrize("what", ["link to a folder", "dangling link", "fifo", "device"])
def test_what_is_neither_file_nor_folder_is_refused(folder: Path, tmp_path: Path, what: str) -> None:
    if what == "link to a folder":
        (folder / "x").symlink_to(tmp_path)
    elif what == "dangling link":
        (folder / "x").symlink_to("nowhere")
    elif what == "device":
        (folder / "x").symlink_to("/dev/zero")
    else:
        os.mkfifo(folder / "x")
    before = descriptors()
    with pytest.raises(InvalidInput, match="neither a file nor a folder"):
        View.of_folder(Opening(), folder)
    assert descriptors() == before


@pytest.mark.parametrize("change", ["turned", "added", "removed", "replaced by a file"])
def test_a_view_that_was_changed_is_noticed(folder: Path, change: str) -> None:
    with View.of_folder(Opening(), folder) as view:
        path = view.folder / "config.json"
        if change == "added":
            (view.folder / "more").write_bytes(b"evil")
        else:
            path.unlink()
            if change == "turned":
                path.symlink_to(folder / "config.json")
            elif change == "replaced by a file":
                path.write_bytes(b"evil")
        with pytest.raises(Unverified, match="changed while they were loaded"):
            view.check()


def test_bounds(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = descriptors()
    monkeypatch.setattr(guard_views, "MAX_FILES", 3)
    with pytest.raises(LimitExceeded, match="more than 3 files"):
        View.of_folder(Opening(), folder)
    monkeypatch.setattr(guard_views, "MAX_FILES", 100)
    monkeypatch.setattr(guard_views, "MAX_DEPTH", 1)
    with pytest.raises(LimitExceeded, match="deeper than 1"):
        View.of_folder(Opening(), folder)
    assert descriptors() == before


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder to another user")
def test_a_place_where_others_rename_is_none(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for mode, owner in ((0o777, 0), (0o755, 61_234)):
        place = tmp_path / f"place-{mode:o}"
        place.mkdir()
        place.chmod(mode)
        os.chown(place, owner, 0)
        monkeypatch.setattr(tempfile, "tempdir", str(place))
        with pytest.raises(Unsupported, match="others may rename"):
            View.of_folder(Opening(), folder)


def test_one_file_under_its_own_name_and_alone(folder: Path) -> None:
    opened = Opening().open(folder / "config.json")
    with View.of_file(opened, str(folder / "config.json")) as view:
        assert Path(view.only).name == "config.json"
        assert [path.name for path in view.folder.iterdir()] == ["config.json"]
