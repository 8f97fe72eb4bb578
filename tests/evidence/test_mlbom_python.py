"""Metadata of installed distributions: RECORD, METADATA, direct_url.json, and who requires whom."""

import base64
import contextlib
import hashlib
import importlib.metadata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packageurl import PackageURL

from vouchgate.evidence.bom.python import (
    Distribution,
    Metadata,
    edges,
    purl,
    pypi_of,
    read_metadata,
    read_record,
    read_source,
    read_tags,
)
from vouchgate.vocabulary.errors import InvalidInput


def spelt(data, algorithm="sha256"):
    return f"{algorithm}=" + base64.urlsafe_b64encode(hashlib.new(algorithm, data).digest()).rstrip(b"=").decode()


def record(text):
    return read_record(text.encode())


def test_rows_of_a_record():
    rows = record(f'a.py,{spelt(b"x")},1\n"b,c.py",{spelt(b"y", "sha512")},\nx-1.dist-info/RECORD,,\n__pycache__/a.cpython-311.pyc,,\n')
    assert [(row.path, row.algorithm, row.size, row.fault) for row in rows] == [
        ("a.py", "sha256", 1, ""),
        ("b,c.py", "sha512", -1, ""),
        ("x-1.dist-info/RECORD", "", -1, ""),
        ("__pycache__/a.cpython-311.pyc", "", -1, ""),
    ]
    assert rows[0].digest == hashlib.sha256(b"x").hexdigest()


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ("a.py,,", "without a hash"),
        ("sub/RECORD,,", "without a hash"),
        (f"a.py,{spelt(b'x', 'md5')},1", "none that counts"),
        (f"a.py,{spelt(b'x', 'sha1')},1", "none that counts"),
        ("a.py,sha256=short,1", "none that counts"),
        (f"a.py,{spelt(b'x')}=,1", "none that counts"),
        (f"a.py,{spelt(b'x')[:-1]}\u00e9,1", "none that counts"),
        (f"a.py,{spelt(b'x')},one", "no number"),
        (f"a.py,{spelt(b'x')},\u0661", "no number"),
        (f"a.py,{spelt(b'x')},{'9' * 5000}", "no number"),
        ("a.py", "not path, hash and size"),
        (f"a\\b.py,{spelt(b'x')},1", "not path, hash and size"),
        (f",{spelt(b'x')},1", "not path, hash and size"),
    ],
)
def test_a_row_that_says_nothing_of_its_file_is_a_fault(row, why):
    (found,) = record(row + "\n")
    assert why in found.fault and not found.digest


def test_a_file_recorded_twice_is_a_fault_the_second_time():
    found = record(f"a.py,{spelt(b'x')},1\n./a.py,{spelt(b'y')},1\n")
    assert [row.fault for row in found] == ["", "it is listed twice"]


def test_digests_are_canonical():
    last = spelt(b"x")[-1]
    other = next(one for one in "ABCDEFGH" if one != last)
    assert record(f"a.py,{spelt(b'x')[:-1] + other},1\n")[0].digest != hashlib.sha256(b"x").hexdigest()


@pytest.mark.parametrize("data", [b"\xff", b'"never closed', b'a,"b"c,d\n'])
def test_what_is_no_table_is_refused(data):
    with pytest.raises(InvalidInput):
        read_record(data)


@given(st.binary(max_size=300))
def test_any_bytes_are_rows_or_refused(data):
    with contextlib.suppress(InvalidInput):
        assert all(row.fault or not row.digest or len(row.digest) in (64, 96, 128) for row in read_record(data))


def metadata(text):
    return read_metadata(text.encode())


def test_metadata():
    found = metadata(
        "Metadata-Version: 2.4\nName: A.b_C\nVersion: 1.0\nLicense-Expression: mit\nRequires-Dist: x>1\nRequires-Dist: y\nSummary: s\n\nbody"
    )
    assert (found.name, found.version, found.license, found.requires, found.summary) == ("A.b_C", "1.0", "MIT", ("x>1", "y"), "s")


@pytest.mark.parametrize(
    ("lines", "license_", "text"),
    [
        ("License: BSD 3-Clause\n", "", "BSD 3-Clause"),
        ("Classifier: License :: OSI Approved :: MIT License\n", "", "MIT License"),
        ("License-Expression: Not A Licence\n", "", "Not A Licence"),
        ("License-Expression: MIT\nLicense-Expression: GPL-3.0-only\n", "", ""),
    ],
)
def test_a_licence_that_is_no_expression_is_a_text(lines, license_, text):
    found = metadata(f"Metadata-Version: 2.1\nName: a\nVersion: 1\n{lines}")
    assert (found.license, found.license_text) == (license_, text)


@pytest.mark.parametrize(
    "text", ["", "Name: a", "Version: 1", "Name: a\nName: b\nVersion: 1", "Name: ../x\nVersion: 1", "Name: a\nVersion: " + "1" * 101]
)
def test_metadata_without_one_name_and_version_is_refused(text):
    with pytest.raises(InvalidInput):
        metadata("Metadata-Version: 2.1\n" + text)


SHA = "ab" * 32


@pytest.mark.parametrize(
    ("wire", "url", "sha256", "commit", "editable"),
    [
        (
            f'{{"url": "https://u:p@h/x.whl?token=s#frag", "archive_info": {{"hashes": {{"sha256": "{SHA}"}}}}}}',
            "https://h/x.whl",
            SHA,
            "",
            False,
        ),
        (f'{{"url": "https://h/x", "archive_info": {{"hash": "sha256={SHA}"}}}}', "https://h/x", SHA, "", False),
        ('{"url": "https://h/x", "archive_info": {"hash": "md5=00"}}', "https://h/x", "", "", False),
        ('{"url": "https://h/x", "archive_info": {"hashes": {"sha256": "AB"}}}', "https://h/x", "", "", False),
        ('{"url": "ssh://git@h/x", "vcs_info": {"vcs": "git", "commit_id": "c0"}}', "ssh://h/x", "", "c0", False),
        ('{"url": "file:///a", "dir_info": {"editable": true}}', "file:///a", "", "", True),
        ('{"url": "file:///a", "dir_info": {"editable": "true"}}', "file:///a", "", "", False),
    ],
)
def test_where_it_came_from_without_secrets(wire, url, sha256, commit, editable):
    found = read_source(wire.encode())
    assert (found.url, found.sha256, found.commit, found.editable) == (url, sha256, commit, editable)


@pytest.mark.parametrize("wire", ["{}", "[]", '{"url": 1}', '{"url": "a", "url": "b"}', "\x00"])
def test_an_origin_with_two_readings_is_refused(wire):
    with pytest.raises(InvalidInput):
        read_source(wire.encode())


def test_tags_of_a_wheel():
    assert read_tags(b"Wheel-Version: 1.0\nTag: py3-none-any\ntag: py2-none-any\nTag: nonsense\nTag: a-b-c d\n") == (
        "py2-none-any",
        "py3-none-any",
    )


def installed(name, *requires):
    return Distribution(folder=f"lib/{name}.dist-info", metadata=Metadata(name=name, version="1", requires=requires))


def graph(*distributions, python="3.11.4"):
    return {key[4:-10]: [one[4:-10] for one in others] for key, others in edges(distributions, python).items()}


def test_requirements_are_edges_where_their_markers_hold():
    found = graph(
        installed("A", "b", "c ; python_version < '3'", "d ; extra == 'x'", "gone", "!! nonsense"),
        installed("B", "E_e[x]>=1"),
        installed("C"),
        installed("d"),
        installed("e.e", "d ; extra == 'x'", "c ; extra == 'y'", "E-e"),
    )
    assert found == {"A": ["B"], "B": ["e.e"], "C": [], "d": [], "e.e": ["d"]}


def test_a_marker_is_of_the_environments_python_not_of_ours():
    assert graph(installed("a", "b ; python_full_version == '3.9.1'"), installed("b"), python="3.9.1") == {"a": ["b"], "b": []}


def test_circles_of_extras_end():
    assert graph(installed("a", "b[x]", "b[y]"), installed("b", "a[z] ; extra == 'x'", "a")) == {"a": ["b"], "b": ["a"]}


@given(
    st.from_regex(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,10}[A-Za-z0-9])?", fullmatch=True),
    st.sampled_from(["1", "1.0+cu118", "2!1.0rc1", "1.0.dev0"]),
)
def test_package_urls_are_as_the_library_writes_them(name, version):
    ours = purl(name, version)
    theirs = PackageURL.from_string(ours)
    assert (theirs.type, theirs.version) == ("pypi", version)
    assert PackageURL("pypi", None, theirs.name, version).to_string() == ours
    assert pypi_of(ours)[0] == theirs.name


@pytest.mark.parametrize(
    "text", ["pkg:npm/a@1", "pkg:pypi/a@1?x=y", "pkg:pypi/a@1#s", "pkg:pypi/@1", "a", "pkg:pypi/a/b@1", "pkg:pypi/a@1@2"]
)
def test_other_package_urls_are_no_package_of_the_index(text):
    assert pypi_of(text) == ("", "")


def test_versions_have_one_spelling():
    assert pypi_of("pkg:pypi/A_b@2024.01.05") == pypi_of("pkg:pypi/a-b@2024.1.5") == ("a-b", "2024.1.5")
    assert pypi_of("pkg:pypi/a") == ("a", "")


def test_real_metadata_is_read_as_the_standard_library_reads_it():
    for one in list(importlib.metadata.distributions())[:40]:
        text = one.read_text("METADATA")
        found = read_metadata(text.encode())
        assert (found.name, found.version) == (one.metadata["Name"], one.version)
        assert list(found.requires) == (one.requires or [])
