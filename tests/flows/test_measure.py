"""Files and folders are measured as they lie: all of them, once, and never through a link."""

import hashlib
import os
from contextlib import closing

import pytest

from vouchgate.evidence.merkle import Manifest, compare, content_digest
from vouchgate.flows import measure as measuring
from vouchgate.flows.measure import Measuring, measure, remeasure
from vouchgate.ports.artifact_files import Place
from vouchgate.vocabulary.digests import file_digest, tree_digest
from vouchgate.vocabulary.errors import InvalidInput, NotFound, Unavailable


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "model"
    (made / "deep" / ".git").mkdir(parents=True)
    (made / "a.bin").write_bytes(bytes(range(256)) * 40)
    (made / "empty").write_bytes(b"")
    (made / "deep" / ".git" / "config").write_bytes(b"[core]")
    return made


def measured(path, **how) -> Manifest:
    with closing(Place(str(path))) as place:
        return measure(place, Measuring(chunk_bytes=1000, **how))


def test_a_folder_has_every_file_hidden_ones_too(folder):
    made = measured(folder)
    assert [file.path for file in made.files] == ["a.bin", "deep/.git/config", "empty"]
    facts = [(file.path.encode(), file_digest((folder / file.path).read_bytes())) for file in made.files]
    assert content_digest(made) == tree_digest(facts)
    first = made.files[0]
    whole = (folder / "a.bin").read_bytes()
    assert [hashlib.sha256(whole[at : at + 1000]).hexdigest() for at in range(0, len(whole), 1000)] == list(first.parts[0].chunks)


def test_a_file_alone_is_called_by_its_own_digest(folder):
    assert content_digest(measured(folder / "a.bin")).text == file_digest((folder / "a.bin").read_bytes()).text


@pytest.mark.parametrize("make", ["inside", "outside", "nowhere", "folder", "pipe", "bytes", "newline"])
def test_what_cannot_be_measured_is_no_part_of_a_manifest(folder, make):
    bad = folder / "bad"
    if make == "pipe":
        os.mkfifo(bad)
    elif make == "bytes":
        (folder / os.fsdecode(b"\xff")).write_bytes(b"")
    elif make == "newline":
        (folder / "a\nb").write_bytes(b"")
    else:
        bad.symlink_to({"inside": "a.bin", "outside": "/etc/hostname", "nowhere": "gone", "folder": "deep"}[make])
    with pytest.raises(InvalidInput):
        measured(folder)


def test_an_empty_folder_is_nothing_to_measure(tmp_path):
    with pytest.raises(InvalidInput, match="holds no file"):
        measured(tmp_path)


def test_what_is_left_out_is_left_out_whole(folder):
    assert [file.path for file in measured(folder, without=frozenset({"deep", "a.bi"})).files] == ["a.bin", "empty"]


def test_one_file_alone_is_read_again(folder):
    before = measured(folder)
    (folder / "empty").write_bytes(b"no longer")
    with closing(Place(str(folder))) as place:
        assert remeasure(place, before, "a.bin", None) == ()
        assert [one.path for one in remeasure(place, before, "empty", None)] == ["empty"]
        raw = bytearray((folder / "a.bin").read_bytes())
        raw[2500] ^= 1
        (folder / "a.bin").write_bytes(raw)
        (change,) = remeasure(place, before, "a.bin", "")
        assert (change.begin, change.end) == (2000, 3000)
        with pytest.raises(InvalidInput, match="no file"):
            remeasure(place, before, "../a.bin", None)
        with pytest.raises(InvalidInput, match="no tensor"):
            remeasure(place, before, "a.bin", "weight")
        (folder / "a.bin").unlink()
        with pytest.raises(NotFound):
            remeasure(place, before, "a.bin", None)


def test_one_tensor_alone_is_read_again(tmp_path):
    numpy, writer = pytest.importorskip("numpy"), pytest.importorskip("safetensors.numpy")
    path = tmp_path / "m.safetensors"
    writer.save_file({"w": numpy.ones((100, 100), "f4"), "b": numpy.zeros(3, "f4")}, path)
    before = measured(path)
    assert [part.name for part in before.files[0].parts] == ["", "b", "w"]
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1
    path.write_bytes(raw)
    with closing(Place(str(path))) as place:
        assert remeasure(place, before, "", "b") == ()
        (change,) = remeasure(place, before, "", "w")
    assert change.part == "w" and change.end == len(raw)


def test_stamps_are_believed_only_where_that_was_asked_for(folder):
    before = measured(folder, stamps=True)
    facts = (folder / "a.bin").stat()
    raw = bytearray((folder / "a.bin").read_bytes())
    raw[0] ^= 1
    (folder / "a.bin").write_bytes(raw)
    os.utime(folder / "a.bin", ns=(facts.st_atime_ns, facts.st_mtime_ns))
    assert len(compare(before, measured(folder))) == 1
    assert len(compare(before, measured(folder, believed=before))) == 1, "a changed ctime is a changed stamp"
    assert compare(measured(folder, stamps=True), measured(folder, believed=measured(folder, stamps=True))) == ()


def test_a_file_that_changes_while_it_is_read_is_no_content(folder, monkeypatch):
    read = measuring._exactly

    def while_reading(descriptor, begin, end, path):
        with (folder / "a.bin").open("ab") as file:
            file.write(b"more")
        return read(descriptor, begin, end, path)

    monkeypatch.setattr(measuring, "_exactly", while_reading)
    with pytest.raises(Unavailable, match="changed while"):
        measured(folder / "a.bin")
