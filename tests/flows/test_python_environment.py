"""A Python environment is read by its path: what was changed, added, taken away or hidden in it is seen, and nothing of it runs."""

import importlib.metadata
import os
import posixpath
import shutil
import sys
from pathlib import Path

import pytest
from bom_world import SITE, environment, install, row, venv

from vouchgate.evidence.bom.python import edges
from vouchgate.vocabulary.errors import InvalidInput, NotFound


@pytest.fixture
def made(tmp_path):
    return venv(tmp_path / "venv")


def faults(folder):
    return {one.metadata.name: [(fault.path, fault.why) for fault in one.faults] for one in environment(folder).distributions if one.faults}


def test_an_environment_as_it_was_installed(made):
    found = environment(made)
    alpha, beta = found.distributions
    assert (found.python, found.unowned, found.unowned_count, found.compiled) == ("3.11.4", (), 0, 1)
    assert (alpha.metadata.name, alpha.installer, alpha.tags, alpha.altered) == ("alpha", "pip", ("py3-none-any",), 0)
    assert alpha.files == alpha.hashed + 1 and alpha.record
    assert edges(found.distributions, found.python) == {alpha.folder: (beta.folder,), beta.folder: ()}


def test_a_folder_of_packages_alone(made):
    found = environment(made / SITE)
    assert len(found.distributions) == 2 and found.python == "" and not found.unowned_count


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda site: (site / "alpha/__init__.py").write_bytes(b"evil\n"), "it was changed"),
        (lambda site: (site / "alpha/__init__.py").write_bytes(b"longer than it was"), "it was changed"),
        (lambda site: (site / "alpha/__init__.py").unlink(), "it is missing"),
        (lambda site: (site / "alpha-1.0.dist-info/METADATA").open("ab").write(b"Requires-Dist: x\n"), "it was changed"),
        (lambda site: ((site / "alpha/__init__.py").unlink(), (site / "alpha/__init__.py").symlink_to("/etc/passwd")), "it cannot be read"),
        (lambda site: ((site / "alpha/__init__.py").unlink(), (site / "alpha/__init__.py").mkdir()), "it is missing"),
    ],
    ids=range(6),
)
def test_what_is_not_as_recorded_is_told(made, change, told):
    change(made / SITE)
    ((name, found),) = faults(made).items()
    assert name == "alpha" and len(found) == 1 and told in found[0][1]


@pytest.mark.parametrize(
    "path", ["sitecustomize.py", "evil.pth", "alpha/more.py", "alpha/x.pyc", "alpha/__pycache__/other.cpython-311.pyc", ".hidden"]
)
def test_a_file_that_nobody_recorded_is_told(made, path):
    (made / SITE / path).parent.mkdir(exist_ok=True)
    (made / SITE / path).write_bytes(b"x")
    assert environment(made).unowned == (f"{SITE}/{path}",)


@pytest.mark.parametrize("path", ["../../../../outside.txt", "/etc/passwd", "../" * 40 + "etc/passwd"])
def test_a_record_that_leads_out_reads_nothing_there(made, tmp_path, path):
    (tmp_path / "outside.txt").write_bytes(b"secret")
    install(made, "gamma", record=row(path, b"secret"))
    assert faults(made)["gamma"] == [(path, "it lies outside of the environment")]


def test_scripts_of_the_environment_are_inside(made):
    (made / "bin").mkdir()
    (made / "bin/tool").write_bytes(b"#!")
    install(made, "gamma", record=row("../../../bin/tool", b"#!"))
    assert "gamma" not in faults(made)
    (made / "bin/tool").write_bytes(b"##")
    assert faults(made)["gamma"] == [("../../../bin/tool", "it was changed")]


def test_two_that_record_one_file_differently_cannot_both_be_right(made):
    install(made, "gamma", files={"alpha/__init__.py": b"gamma's\n"})
    assert list(faults(made)) == ["alpha"]


def test_a_distribution_without_a_record_owns_nothing(made):
    (install(made, "gamma") / "RECORD").unlink()
    found = environment(made)
    gamma = next(one for one in found.distributions if one.metadata.name == "gamma")
    assert (gamma.record, gamma.hashed) == ("", 0) and f"{SITE}/gamma/__init__.py" in found.unowned


def test_nothing_is_imported_and_links_out_are_not_followed(made, tmp_path):
    canary = tmp_path / "canary"
    install(made, "gamma", files={"gamma.py": f"open({str(canary)!r}, 'w')".encode()})
    (made / "bin").mkdir()
    (made / "bin/python").symlink_to(sys.executable)
    (made / "lib64").symlink_to("lib")
    assert len(environment(made).distributions) == 3
    assert not canary.exists() and "gamma" not in sys.modules


@pytest.mark.parametrize("name", ["METADATA", "RECORD", "direct_url.json"])
def test_metadata_that_cannot_be_read_ends_the_reading(made, name):
    (made / SITE / "alpha-1.0.dist-info" / name).write_bytes(b"\xff")
    with pytest.raises(InvalidInput):
        environment(made)


def test_a_pipe_in_the_place_of_a_file_does_not_hold_the_reading(made):
    (made / SITE / "alpha/__init__.py").unlink()
    os.mkfifo(made / SITE / "alpha/__init__.py")
    assert "it cannot be read: it is a pipe" in faults(made)["alpha"][0][1]


@pytest.mark.parametrize("text", ["", "version = x", "version = 3.11", "version = 3.11.\u0661", "version_info = 3.12.1.final.0"])
def test_the_version_is_what_pyvenv_says(made, text):
    (made / "pyvenv.cfg").write_text(text)
    assert environment(made).python == ("3.12.1" if "final" in text else "")


def test_what_holds_no_distribution_is_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_bytes(b"")
    for path in (tmp_path / "empty", tmp_path / "file"):
        with pytest.raises(NotFound):
            environment(path)


def test_real_distributions_are_as_recorded_and_required_as_the_library_says(tmp_path):
    site = tmp_path / "venv" / SITE
    for name in ("referencing", "attrs", "rpds-py", "packaging", "iniconfig"):
        for file in importlib.metadata.files(name):
            source = Path(file.locate())
            if ".." not in file.parts and source.exists():
                (site / file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(source, site / file)
    found = environment(tmp_path / "venv")
    assert len(found.distributions) == 5 and not found.unowned_count and not any(one.altered for one in found.distributions)
    graph = {posixpath.basename(key).split("-")[0]: len(others) for key, others in edges(found.distributions, "3.11.4").items()}
    assert graph == {"referencing": 2, "attrs": 0, "rpds_py": 0, "packaging": 0, "iniconfig": 0}
