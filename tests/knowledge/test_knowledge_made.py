"""The generator's edges: reviewed files that break a rule, versions that would fall, keys that were replaced, wheels that are not the pinned ones."""

import hashlib
import json
import zipfile

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from knowledge.library import newest
from knowledge.places import REVIEWED, RULES
from knowledge.reviewed import Wrong, read_reviewed
from knowledge.rules import Rules, load
from knowledge.source import MAX_SOURCE_BYTES

from knowledge import release, wheels
from vouchgate.scanning.knowledge.base import MANIFEST
from vouchgate.scanning.knowledge.entries import Entry
from vouchgate.scanning.knowledge.parts import Wheel
from vouchgate.scanning.knowledge.sealed import PUBLISHERS
from vouchgate.vocabulary.errors import Unverified

KEY, OTHER = Ed25519PrivateKey.from_private_bytes(b"k" * 32), Ed25519PrivateKey.from_private_bytes(b"o" * 32)
HELD = {"shap", "lifelines", "category-encoders", "sktime", "pmdarima", "hdbscan", "umap-learn"}
SOUND = {"name": "acme.f", "uses": ["callable"], "arguments": "none", "why": "gives a number", "reviewer": "core"}


def public(key):
    import base64

    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return base64.b64encode(key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).decode()


def reviewed(tmp_path, *entries, name="acme.toml", head=""):
    rows = ("[[entry]]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in entry.items()) for entry in entries)
    (tmp_path / name).write_text(head + "\n".join(rows))
    return read_reviewed(tmp_path)


def test_a_sound_entry_is_read(tmp_path):
    (entry,) = reviewed(tmp_path, SOUND)
    assert (entry.module, entry.name, entry.uses, entry.arguments, entry.library) == ("acme", "f", ("callable",), "none", "acme")


@pytest.mark.parametrize(
    "broken",
    [
        {"arguments": "nonne"},
        {"arguments": ""},
        {"arguments": "None"},
        {"uses": ["constructible"], "arguments": "", "state": "atributes"},
        {"uses": ["inert"], "state": "attributes"},
        {"uses": ["anything"]},
        {"uses": "callable"},
        {"name": "acme.f()"},
        {"name": "f"},
        {"name": "acme.*"},
        {"why": " "},
        {"reviewer": ""},
        {"module": "other"},
        {"names": ["acme.g"]},
        {"because": "x"},
    ],
    ids=str,
)
def test_a_reviewed_entry_that_breaks_a_rule_is_an_error(tmp_path, broken):
    with pytest.raises(Wrong):
        reviewed(tmp_path, {**SOUND, **broken})


def test_a_name_stands_once(tmp_path):
    with pytest.raises(Wrong, match="twice"):
        reviewed(tmp_path, SOUND, SOUND)
    reviewed(tmp_path, SOUND)
    with pytest.raises(Wrong, match="twice"):
        reviewed(tmp_path, {**SOUND, "uses": []}, name="beside.toml")


def test_what_is_reviewed_in_the_repository_is_sound():
    assert len(read_reviewed(REVIEWED)) > 500


def entry(name="f", uses=("inert",), library="acme"):
    return Entry(module="acme", name=name, uses=uses, library=library, reviewer="generated")


def written(folder, *entries, key=KEY, publishers=(public(KEY),), wheels=()):
    parts = release.compiled(entries, wheels, release.current(folder, publishers))
    return release.write(parts, tuple(wheels), "0" * 64, key, folder, publishers)


def test_the_version_rises_with_every_change_and_with_nothing_else(tmp_path):
    assert written(tmp_path, entry()).version == 1
    assert written(tmp_path, entry()).version == 1
    assert written(tmp_path, entry(), entry("g")).version == 2
    assert written(tmp_path, entry()).version == 3
    again = written(tmp_path, entry(), entry("h"))
    assert again.version == 4 and again.find("acme", "f").since == 1 and again.find("acme", "h").since == 4


def test_what_lies_there_unverified_is_not_written_over(tmp_path):
    written(tmp_path, entry())
    (tmp_path / MANIFEST).write_bytes((tmp_path / MANIFEST).read_bytes()[:-2])
    with pytest.raises(release.Rollback):
        written(tmp_path, entry("g"))


def test_a_key_that_nobody_knows_writes_nothing(tmp_path):
    written(tmp_path, entry())
    before = release.files_of(tmp_path)
    with pytest.raises(Unverified):
        written(tmp_path, entry("g"), key=OTHER)
    assert release.files_of(tmp_path) == before


def test_a_key_is_replaced_over_one_release(tmp_path):
    both, new = (public(KEY), public(OTHER)), (public(OTHER),)
    assert written(tmp_path, entry(), publishers=both).version == 1
    assert release.current(tmp_path, new) is None
    assert written(tmp_path, entry("g"), key=OTHER, publishers=both).version == 2
    assert release.current(tmp_path, new).version == 2


def test_a_part_that_is_gone_takes_its_file_with_it(tmp_path):
    written(tmp_path, entry(), entry(library="beside", name="g"))
    written(tmp_path, entry())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["acme.json", MANIFEST]


def test_parts_over_the_bound_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(release, "MAX_DATA_BYTES", 10)
    with pytest.raises(release.Rollback, match="bound"):
        written(tmp_path, entry())
    assert not list(tmp_path.iterdir())


def wheel(tmp_path, monkeypatch, **members):
    monkeypatch.setattr(wheels, "CACHE", tmp_path)
    path = tmp_path / "wheels" / "acme-1.0-py3-none-any.whl"
    path.parent.mkdir(exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in members.items():
            archive.writestr(name, text)
    return Wheel(distribution="acme", version="1.0", file=path.name, sha256=hashlib.sha256(path.read_bytes()).hexdigest())


def test_a_wheel_is_read_without_its_tests_and_data(tmp_path, monkeypatch):
    members = {
        "acme/__init__.py": "x = 1",
        "acme/a.py": "def f(): pass",
        "acme/tests/b.py": "",
        "acme/c.txt": "",
        "acme/_fast.cpython-311-x86_64-linux-gnu.so": "",
        "acme-1.0.data/scripts/run.py": "",
        "acme/not-a-name.py": "",
        "acme/broken.py": "def (",
        "acme/huge.py": "#" * (MAX_SOURCE_BYTES + 1),
    }
    read = wheels.read(wheel(tmp_path, monkeypatch, **members), load().left_out)
    assert set(read.modules) == {"acme", "acme.a"} and read.natives == ("acme._fast",)


def test_a_wheel_that_is_not_the_pinned_one_is_an_error(tmp_path, monkeypatch):
    pinned = wheel(tmp_path, monkeypatch, **{"acme/a.py": "x = 1"})
    changed = tmp_path / "wheels" / pinned.file
    changed.write_bytes(changed.read_bytes() + b"\x00")
    with pytest.raises(wheels.Wrong, match="not the pinned one"):
        wheels.read(pinned, load().left_out)


def test_pins_are_whole_and_the_held_out_libraries_are_not_among_them():
    pinned = wheels.pins()
    assert all(len(one.sha256) == 64 and one.file.endswith(".whl") for one in pinned)
    assert len({one.file for one in pinned}) == len(pinned) > 100
    assert not HELD & set(newest(pinned))


def test_no_accepted_line_reaches_into_every_library():
    wild = [line for line in load().document["accepted"] if line.startswith("*.") and "array_api_extra" not in line]
    assert wild == [] and RULES.exists()


def test_a_code_line_wins_over_an_equally_long_pure_one():
    rules = Rules({"pure": {"names": ["acme.*", "acme.run.f"]}, "code": {"names": ["acme.run*", "acme.run.f"]}})
    assert [rules.said(name) for name in ("acme.x", "acme.run.g", "acme.run.f", "other")] == ["pure", "code", "code", ""]


def test_the_publishers_in_the_source_are_keys():
    assert all(len(one) == len(public(KEY)) for one in PUBLISHERS)
