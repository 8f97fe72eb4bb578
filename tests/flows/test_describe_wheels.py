"""Wheels: read as archives within bounds, held to their own RECORD, and what is installed held to them."""

import hashlib
import io
import json
import os
import random
import zipfile
from contextlib import closing
from pathlib import Path

import pytest
from bom_world import SITE, install, row

from vouchgate.evidence.bom.document import File, Model, Scan, write_bom
from vouchgate.evidence.bom.gaps import gap
from vouchgate.evidence.bom.packages import installed
from vouchgate.evidence.bom.read import read_bom
from vouchgate.flows import describe_wheels
from vouchgate.flows.describe_artifact import compare_environment, compare_wheels
from vouchgate.flows.describe_wheels import read_wheels
from vouchgate.flows.python_environment import read_environment
from vouchgate.ports.artifact_files import Place
from vouchgate.vocabulary.errors import InvalidInput, NotFound

NAME = "alpha-1.0-py3-none-any.whl"
OWN = "alpha-1.0.dist-info"
SOURCE = {"alpha/__init__.py": b"pass\n", "alpha/data.bin": b"\0" * 100}


def contents(files=None, **more):
    """A wheel's files with its metadata, without the RECORD."""
    said = more.get("metadata", "Metadata-Version: 2.1\nName: alpha\nVersion: 1.0\n")
    return dict(files or SOURCE) | {f"{OWN}/METADATA": said.encode(), f"{OWN}/WHEEL": b"Wheel-Version: 1.0\nTag: py3-none-any\n"}


def packed(files, *, record=None, kind=zipfile.ZIP_DEFLATED):
    whole = dict(files)
    whole[f"{OWN}/RECORD"] = (record or "".join(row(path, data) for path, data in files.items()) + f"{OWN}/RECORD,,\n").encode()
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", kind) as archive:
        for path, data in whole.items():
            archive.writestr(path, data)
    return made.getvalue()


def read(folder):
    with closing(Place(str(folder))) as place:
        return read_wheels(place)


def wheel(tmp_path, data, name=NAME):
    folder = tmp_path / "wheels"
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(data)
    return next(one for one in read(folder) if one.file == name)


def environment(folder):
    with closing(Place(str(folder))) as place:
        return read_environment(place, rows=True)


def venv(tmp_path, **more):
    """`alpha` as an installer leaves it."""
    install(tmp_path / "venv", "alpha", "1.0", SOURCE, **more)
    return tmp_path / "venv"


def document(found, wheels):
    made = Model(
        name="m", digest=f"sha256-tree:{'aa' * 32}", manifest=f"sha256-manifest:{'bb' * 32}", folder=True,
        files=(File(path="w", size=1, sha256="cc" * 32),), scan=Scan(outcome="clean", format="f"),
    )  # fmt: skip
    return read_bom(write_bom(made, found, spec="1.6", timestamp="2026-01-31T12:00:00.000Z", version="1", wheels=wheels))


def test_a_wheel_is_hashed_and_held_to_its_record(tmp_path):
    data = packed(contents())
    found = wheel(tmp_path, data)
    assert (found.sha256, found.size, found.fault) == (hashlib.sha256(data).hexdigest(), len(data), "")
    assert (found.release, found.tags, found.folder) == (("alpha", "1.0"), ("py3-none-any",), OWN)
    assert found.files["alpha/__init__.py"] == hashlib.sha256(b"pass\n").hexdigest()


def test_attestations_beside_it_are_named_by_their_hash(tmp_path):
    wheel(tmp_path, packed(contents()))
    (tmp_path / f"wheels/{NAME}.publish.attestation").write_bytes(b"{}")
    (found,) = read(tmp_path / "wheels")
    assert [(one.name, one.sha256) for one in found.beside] == [(f"{NAME}.publish.attestation", hashlib.sha256(b"{}").hexdigest())]
    (one,) = document(None, [found]).document["components"][1:] or [None]
    assert one["externalReferences"][0]["type"] == "attestation" and one["purl"] == f"pkg:pypi/alpha@1.0?file_name={NAME}"


def flipped(data, of):
    """One byte of a stored member."""
    at = data.index(of)
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def twice():
    made = io.BytesIO(packed(contents()))
    with pytest.warns(UserWarning), zipfile.ZipFile(made, "a") as archive:
        archive.writestr("alpha/__init__.py", b"import os\n")
    return made.getvalue()


def encrypted(data):
    at = data.index(b"PK\1\2") + 8
    return data[:at] + b"\1\0" + data[at + 2 :]


BAD = {
    "a file changed, CRC right": lambda: packed(contents(SOURCE | {"alpha/__init__.py": b"evil\n"}), record=recorded(contents())),
    "a file that RECORD does not have": lambda: packed(contents(SOURCE | {"evil.pth": b"import os"}), record=recorded(contents())),
    "a recorded file that is missing": lambda: packed(contents({"alpha/__init__.py": b"pass\n"}), record=recorded(contents())),
    "a file recorded without a hash": lambda: packed(contents(), record=recorded(contents()) + "alpha/x.pyc,,\n"),
    "a byte flipped": lambda: flipped(packed(contents(), kind=zipfile.ZIP_STORED), b"pass\n"),
    "no archive": lambda: b"hello",
    "empty": lambda: b"",
    "cut off": lambda: packed(contents())[:-30],
    "a member twice": twice,
    "encrypted": lambda: encrypted(packed(contents())),
    "packed otherwise": lambda: packed(contents(), kind=zipfile.ZIP_LZMA),
    "outside": lambda: packed(contents(SOURCE | {"../evil.py": b"1"})),
    "absolute": lambda: packed(contents(SOURCE | {"/evil.py": b"1"})),
    "another release": lambda: packed(contents(metadata="Metadata-Version: 2.1\nName: beta\nVersion: 1.0\n")),
    "two records": lambda: packed(contents(SOURCE | {"beta-1.dist-info/RECORD": b""})),
    "a bomb": lambda: packed(contents(SOURCE | {"zeros": b"\0" * (80 << 20)})),
}


def recorded(files):
    return "".join(row(path, data) for path, data in files.items()) + f"{OWN}/RECORD,,\n"


@pytest.mark.parametrize("make", BAD.values(), ids=BAD)
def test_what_is_no_sound_wheel_is_told_and_still_hashed(tmp_path, make):
    data = make()
    found = wheel(tmp_path, data)
    assert found.fault and found.sha256 == hashlib.sha256(data).hexdigest()
    one = next(one for one in document(None, [found]).packages)
    assert gap(one, (), (), ()).provenance == "nothing" and gap(one, (), (), ()).altered


def test_a_directory_of_any_length_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(describe_wheels, "MAX_DIRECTORY_BYTES", 100)
    assert "directory" in wheel(tmp_path, packed(contents())).fault


def test_a_64_bit_directory_is_not_read(tmp_path):
    data = packed(contents())
    at = data.rindex(b"PK\5\6")
    record = b"PK\6\6" + (44).to_bytes(8, "little") + b"\0" * 44
    assert "64-bit" in wheel(tmp_path, data[:at] + record + b"PK\6\7" + b"\0" * 16 + data[at:]).fault


@pytest.mark.parametrize("cut", range(0, 700, 23))
def test_any_piece_of_a_wheel_is_a_fault_and_no_error(tmp_path, cut):
    data = packed(contents())
    assert wheel(tmp_path, data[:cut]).fault and wheel(tmp_path, data[cut + 1 :]).fault


@pytest.mark.parametrize("name", ["alpha.whl", "alpha-1.0.whl", "alpha-x y-py3-none-any.whl", "..whl"])
def test_a_name_that_is_no_wheels_is_a_fault(tmp_path, name):
    assert "name" in wheel(tmp_path, packed(contents()), name).fault


def test_folders_that_hold_no_wheels_or_odd_ones_are_refused(tmp_path):
    (tmp_path / "x").mkdir()
    with pytest.raises(NotFound):
        read(tmp_path / "x")
    (tmp_path / "x" / NAME).symlink_to("/etc/passwd")
    with pytest.raises(InvalidInput):
        read(tmp_path / "x")
    (tmp_path / "y/z").mkdir(parents=True)
    for where in ("y", "y/z"):
        (tmp_path / where / NAME).write_bytes(b"")
    with pytest.raises(InvalidInput, match="two wheels"):
        read(tmp_path / "y")
    (tmp_path / "v").mkdir()
    Path(os.fsdecode(os.fsencode(str(tmp_path / "v")) + b"/a\xff.whl")).write_bytes(b"")
    with pytest.raises(InvalidInput, match="no name"):
        read(tmp_path / "v")


def test_a_distribution_that_is_its_wheel_has_the_archives_hash(tmp_path):
    one = wheel(tmp_path, packed(contents()))
    more = {"alpha/__pycache__/__init__.cpython-311.pyc": b"compiled", "../../../bin/alpha": b"#!python"}
    install(tmp_path / "venv", "alpha", "1.0", SOURCE | more)
    here = environment(tmp_path / "venv")
    (held,) = installed([one], here).values()
    assert held.fault == "" and held.added == ("../../../bin/alpha",)
    bom = document(here, [one])
    (package,) = bom.packages
    assert bom.faults == () and package.sha256 == (one.sha256,) and package.said("wheel:file") == NAME
    assert gap(package, (), (), ()).provenance == "locked"
    assert compare_wheels(bom, [one]) == [] and compare_environment(bom, here) == []


DIFFERS = {
    "a changed file": (SOURCE | {"alpha/__init__.py": b"evil\n"}, {}, "is not the wheel's"),
    "a file more": (SOURCE | {"evil.pth": b"import os"}, {}, "not in the wheel"),
    "a compiled file without its source": (SOURCE, {"alpha/__pycache__/evil.cpython-311.pyc": b""}, "not in the wheel"),
    "a file fewer": ({"alpha/__init__.py": b"pass\n"}, {}, "is not installed"),
    "a file above": (SOURCE, {"../sitecustomize.py": b"import os"}, "not in the wheel"),
    "a note that no installer writes": (SOURCE, {f"{OWN}/evil.py": b""}, "not in the wheel"),
}


@pytest.mark.parametrize(("files", "more", "why"), DIFFERS.values(), ids=DIFFERS)
def test_a_distribution_that_is_not_its_wheel_says_so_though_its_record_agrees(tmp_path, files, more, why):
    one = wheel(tmp_path, packed(contents()))
    install(tmp_path / "venv", "alpha", "1.0", files | more)
    here = environment(tmp_path / "venv")
    assert here.distributions[0].altered == 0
    (held,) = installed([one], here).values()
    assert why in held.fault
    bom = document(here, [one])
    by = {component.reference: component for component in bom.packages}
    assert set(by) == {f"wheel:{NAME}", f"python:{SITE}/{OWN}"} and by[f"python:{SITE}/{OWN}"].sha256 == ()
    assert gap(by[f"python:{SITE}/{OWN}"], (), (), ()).provenance == "nothing"


def test_the_installers_word_for_another_archive_is_a_contradiction(tmp_path):
    one = wheel(tmp_path, packed(contents()))
    here = environment(venv(tmp_path, sha256="ee" * 32))
    assert installed([one], here).popitem()[1].fault == "the installer took another archive"


@pytest.mark.parametrize("tag", ["cp311-cp311-linux_x86_64", "py2-none-any"])
def test_a_wheel_of_other_tags_says_nothing_of_what_is_installed(tmp_path, tag):
    assert installed([wheel(tmp_path, packed(contents()))], environment(venv(tmp_path, tag=tag))) == {}


def test_data_files_and_scripts_go_elsewhere_and_are_counted(tmp_path):
    data = {"alpha-1.0.data/data/share/a.txt": b"a", "alpha-1.0.data/scripts/run": b"#!python", "alpha-1.0.data/purelib/beta.py": b"b"}
    one = wheel(tmp_path, packed(contents(SOURCE | data)))
    placed = SOURCE | {"beta.py": b"b", "../../../share/a.txt": b"a", "../../../bin/run": b"#!/venv"}
    install(tmp_path / "venv", "alpha", "1.0", placed)
    (held,) = installed([one], environment(tmp_path / "venv")).values()
    assert (held.fault, held.relocated, held.added) == ("", 2, ("../../../bin/run", "../../../share/a.txt"))


def test_two_files_of_a_wheel_that_go_to_one_place_are_no_wheels_word_for_either(tmp_path):
    one = wheel(tmp_path, packed(contents(SOURCE | {"alpha-1.0.data/purelib/alpha/__init__.py": b"evil\n"})))
    for data in (b"pass\n", b"evil\n"):
        install(tmp_path / "venv", "alpha", "1.0", SOURCE | {"alpha/__init__.py": data})
        (held,) = installed([one], environment(tmp_path / "venv")).values()
        assert "stands twice" in held.fault


def test_wheels_that_changed_came_or_went_are_told(tmp_path):
    one = wheel(tmp_path, packed(contents()))
    bom = document(None, [one])
    changed = wheel(tmp_path, packed(contents(SOURCE | {"x.py": b""})))
    assert [(two.kind, two.what) for two in compare_wheels(bom, [changed])] == [("changed", "wheel")]
    assert [two.kind for two in compare_wheels(bom, [])] == ["missing"]
    assert [two.kind for two in compare_wheels(document(None, []), [one])] == ["added"]


def test_the_document_is_the_same_for_the_same_wheels(tmp_path):
    one = wheel(tmp_path, packed(contents()))
    assert json.dumps(document(None, [one]).document) == json.dumps(document(None, [one]).document)
    assert document(None, [one]).document["dependencies"][-1] != {} and document(None, [one]).faults == ()


def test_no_flipped_byte_passes_for_what_the_wheel_holds(tmp_path):
    chance, data = random.Random(7), packed(contents())
    honest = wheel(tmp_path, data)
    for _ in range(400):
        at = chance.randrange(len(data))
        found = wheel(tmp_path, data[:at] + bytes([data[at] ^ 1 << chance.randrange(8)]) + data[at + 1 :])
        assert found.sha256 != honest.sha256
        assert found.fault or (found.files, found.release, found.tags) == (honest.files, honest.release, honest.tags), at
