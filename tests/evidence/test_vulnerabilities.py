"""Records about vulnerabilities and statements about exploitability: what is affected, what closes a finding, and what does not."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.version import Version

from vouchgate.evidence.vulnerabilities import Hit, Package, Statement, findings
from vouchgate.evidence.vulnerabilities_osv import MAX_RECORD_BYTES, hits, read_record
from vouchgate.evidence.vulnerabilities_vex import read_statements
from vouchgate.vocabulary.errors import InvalidInput

NOW = 1_800_000_000_000


def record(affected, **more):
    return read_record(json.dumps({"id": "GHSA-1", "modified": "2026-01-01T00:00:00Z", "affected": affected} | more).encode())


def about(name="x", ecosystem="PyPI", versions=(), events=(), kind="ECOSYSTEM", **more):
    ranges = [{"type": kind, "events": list(events)}] if events else []
    return [{"package": {"ecosystem": ecosystem, "name": name}, "ranges": ranges, "versions": list(versions)} | more]


def hit(record_, version, name="x"):
    return list(hits(record_, {name: [Package(name=name, version=version)]}))


SPAN = [{"introduced": "1.0"}, {"fixed": "2.0"}]


@pytest.mark.parametrize(
    ("events", "version", "affected"),
    [
        (SPAN, "0.9", False),
        (SPAN, "1.0", True),
        (SPAN, "1.0.post1", True),
        (SPAN, "1.0rc1", False),
        (SPAN, "1.9.9", True),
        (SPAN, "1.10", True),
        (SPAN, "2.0rc1", True),
        (SPAN, "2.0", False),
        (SPAN, "2.0+cu118", False),
        (SPAN, "1.9+patched.2.0", True),
        (SPAN, "1!0.5", False),
        ([{"introduced": "0"}, {"fixed": "2.0"}], "0.dev0", True),
        ([{"introduced": "0"}, {"fixed": "2.0"}], "0a1", True),
        ([{"introduced": "0"}], "99!9", True),
        ([{"introduced": "1.0"}, {"last_affected": "1.5"}], "1.5", True),
        ([{"introduced": "1.0"}, {"last_affected": "1.5"}], "1.5+local", True),
        ([{"introduced": "1.0"}, {"last_affected": "1.5"}], "1.5.post1", False),
        ([{"introduced": "1.0"}, {"last_affected": "1.0"}], "1.0", True),
        ([{"introduced": "1.0"}, {"last_affected": "1.0"}], "1.0.1", False),
        ([{"fixed": "2.0"}, {"introduced": "3.0"}, {"introduced": "1.0"}, {"fixed": "4.0"}], "2.5", False),
        ([{"fixed": "2.0"}, {"introduced": "3.0"}, {"introduced": "1.0"}, {"fixed": "4.0"}], "3.5", True),
        ([{"introduced": "1.0"}, {"fixed": "2.0"}, {"introduced": "2.0"}], "2.0", True),
        ([{"introduced": "0"}, {"limit": "2.0"}], "1.0", True),
        ([{"introduced": "0"}, {"limit": "2.0"}], "2.0", False),
        ([{"introduced": "0"}, {"limit": "2.0"}, {"limit": "*"}], "3.0", True),
        ([{"introduced": "1.0", "fixed": "2.0"}], "1.5", True),
    ],
)
def test_ranges_by_pep_440(events, version, affected):
    assert bool(hit(record(about(events=events)), version)) == affected


def test_versions_that_are_listed():
    for listed, version, affected in (("1.0", "1.0", True), ("1.0", "1.0.0", True), ("1.0", "1.0+local", True), ("1.0", "1.0.1", False)):
        assert bool(hit(record(about(versions=[listed])), version)) == affected


def test_semver_ranges_of_the_ecosystem_count_and_listed_beside_ranges():
    assert hit(record(about(events=SPAN, kind="SEMVER")), "1.5")
    assert hit(record(about(events=SPAN, versions=["5.0"])), "5.0") and not hit(record(about(events=SPAN, versions=["5.0"])), "5.1")


@pytest.mark.parametrize(
    ("affected", "version"),
    [
        (about(events=SPAN), "not-a-version"),
        (about(events=[{"introduced": "0"}, {"fixed": "abc"}]), "1.0"),
        (about(events=[{"introduced": "0"}, {"limit": "abc"}]), "1.0"),
        (about(events=[{"introduced": "abc0"}], kind="GIT"), "1.0"),
        (about(), "1.0"),
    ],
)
def test_what_cannot_be_told_counts_and_says_so(affected, version):
    (found,) = hit(record(affected), version)
    assert found.untold


def test_a_list_of_versions_tells_without_a_range_of_commits():
    assert not hit(record(about(versions=["1.0"], events=[{"introduced": "abc0"}], kind="GIT")), "2.0")


@pytest.mark.parametrize(
    ("name", "ecosystem", "more", "found"),
    [
        ("X", "PyPI", {}, True),
        ("x", "npm", {}, False),
        ("x", "pypi", {}, False),
        ("y", "PyPI", {}, False),
        ("", "", {"package": {"purl": "pkg:pypi/X"}}, True),
        ("", "", {"package": {"purl": "pkg:npm/x"}}, False),
        ("", "", {"package": None}, False),
    ],
)
def test_packages_are_named_by_ecosystem_and_normalised_name(name, ecosystem, more, found):
    assert bool(hit(record(about(name, ecosystem, events=SPAN) if not more else [about(events=SPAN)[0] | more]), "1.5")) == found


def test_names_are_compared_normalised():
    assert hit(record(about("A_b.C", events=SPAN)), "1.5", name="a-b-c")


def test_a_withdrawn_record_says_nothing():
    assert hit(record(about(events=SPAN)), "1.5") and not hit(record(about(events=SPAN), withdrawn="2026-01-01T00:00:00Z"), "1.5")


def test_the_next_version_that_is_mended_is_told():
    events = [{"introduced": "0"}, {"fixed": "1.10"}, {"introduced": "2.0"}, {"fixed": "2.3"}]
    assert hit(record(about(events=events)), "1.9")[0].fixed == ("1.10",)
    assert hit(record(about(events=events)), "2.1")[0].fixed == ("2.3",)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"{}",
        b'{"id": 1, "modified": "x"}',
        b'{"id": "a", "modified": "x", "affected": [{"ranges": [{"type": "NEW"}]}]}',
        b"\xff",
        b"[" * 10_000,
        b" " * (MAX_RECORD_BYTES + 1),
    ],
    ids=range(8),
)
def test_what_is_no_record_is_refused(data):
    with pytest.raises(InvalidInput):
        read_record(data)


def test_members_that_the_schema_will_grow_are_ignored():
    assert hit(record(about(events=SPAN, new={"a": 1}), schema_version="9", new=[1]), "1.5")


VERSIONS = st.builds(lambda a, b: f"{a}.{b}", st.integers(0, 4), st.integers(0, 4))


def evaluate(events, version):
    """The algorithm of the schema's page, word for word: sorted events, one pass."""
    inside = False
    order = {"fixed": 0, "introduced": 1, "last_affected": 2}
    for event in sorted(
        events,
        key=lambda e: (Version("0.dev0") if next(iter(e.values())) == "0" else Version(next(iter(e.values()))), order[next(iter(e))]),
    ):
        ((kind, text),) = event.items()
        if kind == "introduced" and (text == "0" or version >= Version(text)):
            inside = True
        elif (kind == "fixed" and version >= Version(text)) or (kind == "last_affected" and version > Version(text)):
            inside = False
    return inside


@given(
    st.lists(
        st.builds(lambda kind, text: {kind: text}, st.sampled_from(["introduced", "fixed", "last_affected"]), VERSIONS),
        min_size=1,
        max_size=6,
    ),
    VERSIONS,
)
def test_ranges_agree_with_the_schemas_algorithm(events, version):
    assert bool(hit(record(about(events=events)), version)) == evaluate(events, Version(version))


@given(st.permutations([{"introduced": "0"}, {"fixed": "1.2"}, {"introduced": "2.0"}, {"fixed": "3.1"}, {"introduced": "4"}]), VERSIONS)
def test_the_order_of_events_does_not_count(events, version):
    straight = [{"introduced": "0"}, {"fixed": "1.2"}, {"introduced": "2.0"}, {"fixed": "3.1"}, {"introduced": "4"}]
    assert bool(hit(record(about(events=events)), version)) == bool(hit(record(about(events=straight)), version))


X = Package(name="x", version="1.0")


def known(id_, *aliases, package=X, **more):
    return Hit(package=package, id=id_, aliases=aliases, **more)


def said(state, *ids, at=1.0, package="x", version="", because="because"):
    return Statement(ids=ids or ("CVE-1",), package=package, version=version, state=state, because=because, at=at)


def test_aliases_are_one_finding_also_through_others():
    found = findings([known("GHSA-1", "CVE-1"), known("PYSEC-1", "CVE-2"), known("OTHER", "CVE-1", "CVE-2"), known("CVE-9")], [])
    assert [(one.id, len(one.aliases)) for one in found] == [("CVE-1", 4), ("CVE-9", 0)]


def test_the_same_vulnerability_in_two_packages_is_two_findings():
    assert len(findings([known("CVE-1"), known("CVE-1", package=Package(name="y", version="1"))], [])) == 2


@pytest.mark.parametrize(
    ("statements", "state"),
    [
        ([], "affected"),
        ([said("not_affected")], "not_affected"),
        ([said("fixed")], "fixed"),
        ([said("under_investigation")], "under_investigation"),
        ([said("not_affected", "CVE-2")], "affected"),
        ([said("not_affected", "GHSA-1")], "not_affected"),
        ([said("not_affected", package="y")], "affected"),
        ([said("not_affected", version="1.0")], "not_affected"),
        ([said("not_affected", version="1.1")], "affected"),
        ([said("not_affected", at=1), said("affected", at=2)], "affected"),
        ([said("affected", at=1), said("not_affected", at=2)], "not_affected"),
        ([said("not_affected", at=2), said("affected", at=2)], "affected"),
        ([said("fixed", at=2), said("under_investigation", at=2), said("not_affected", at=2)], "under_investigation"),
    ],
)
def test_the_newest_statement_counts_and_of_those_the_worst(statements, state):
    (found,) = findings([known("GHSA-1", "CVE-1")], statements)
    assert found.state == state and found.open == (state in ("affected", "under_investigation"))


def test_open_findings_come_first():
    found = findings([known("CVE-1"), known("CVE-2")], [said("not_affected", "CVE-1")])
    assert [one.id for one in found] == ["CVE-2", "CVE-1"]


def vex(*statements, **more):
    document = {"@context": "https://openvex.dev/ns/v0.2.0", "@id": "i", "author": "A", "timestamp": "2026-01-01T00:00:00Z", "version": 1}
    return json.dumps(document | {"statements": list(statements)} | more).encode()


def one(status="not_affected", product=None, **more):
    justified = (
        {"justification": "component_not_present"}
        if status == "not_affected"
        else {"action_statement": "wait"}
        if status == "affected"
        else {}
    )
    return {"vulnerability": {"name": "CVE-1"}, "products": [product or {"@id": "pkg:pypi/X@1.0"}], "status": status} | justified | more


def read(*statements, model=("urn:uuid:m", "aa" * 32), now=NOW, **more):
    return read_statements(vex(*statements, **more), model, now)


def test_a_statement():
    (found,), notes = read(one(impact_statement="not called"))
    assert (found.ids, found.package, found.version, found.state, notes) == (("CVE-1",), "x", "1.0", "not_affected", [])
    assert found.because == "component_not_present: not called" and found.author == "A"


@pytest.mark.parametrize("status", ["not_affected", "affected", "fixed", "under_investigation"])
def test_every_status(status):
    assert read(one(status))[0][0].state == status


@pytest.mark.parametrize(
    "statement",
    [
        one(justification=""),
        one(justification="because_i_say_so"),
        one(justification="", impact_statement="  "),
        one("affected", action_statement=""),
        one("harmless"),
        one(products=[]),
        one(timestamp="2100-01-01T00:00:00Z"),
        one(timestamp="2026-01-01T00:00:00"),
        one(timestamp="soon"),
    ],
)
def test_a_statement_that_the_specification_does_not_allow_does_not_count(statement):
    found, notes = read(statement)
    assert not found and "does not count" in notes[0]


@pytest.mark.parametrize(
    ("product", "named"),
    [
        ({"@id": "pkg:pypi/X"}, [("x", "")]),
        ({"@id": "product", "identifiers": {"purl": "pkg:pypi/x@1.0"}}, [("x", "1.0")]),
        ({"@id": "pkg:pypi/x@1.0", "identifiers": {"purl": "pkg:pypi/y@1.0"}}, []),
        ({"@id": "pkg:pypi/x@1.0?repository_url=h"}, []),
        ({"@id": "pkg:npm/x@1.0"}, []),
        ({"@id": "x"}, []),
        ({"@id": "pkg:pypi/other@1", "subcomponents": [{"@id": "pkg:pypi/x@1.0"}]}, []),
        ({"@id": "urn:uuid:m", "subcomponents": [{"@id": "pkg:pypi/x@1.0"}]}, [("x", "1.0")]),
        ({"@id": "urn:uuid:other", "subcomponents": [{"@id": "pkg:pypi/x@1.0"}]}, []),
        ({"@id": "m", "hashes": {"sha-256": "AA" * 32}, "subcomponents": [{"@id": "pkg:pypi/x"}]}, [("x", "")]),
        ({"@id": "m", "hashes": {"sha-1": "aa" * 32}, "subcomponents": [{"@id": "pkg:pypi/x"}]}, []),
        ({"@id": "urn:uuid:m"}, []),
    ],
)
def test_which_packages_a_statement_is_about(product, named):
    assert [(found.package, found.version) for found in read(one(product=product))[0]] == named


def test_a_model_without_a_name_is_no_product():
    assert not read(one(product={"@id": "", "subcomponents": [{"@id": "pkg:pypi/x@1.0"}]}), model=("",))[0]


def test_times_are_the_statements_else_the_documents():
    assert read(one(timestamp="2026-02-01T00:00:00+01:00"))[0][0].at > read(one())[0][0].at
    assert read(one(), last_updated="2026-03-01T00:00:00Z")[0][0].at > read(one(timestamp="2026-02-01T00:00:00Z"))[0][0].at


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", vex(**{"@context": "https://evil"}), vex({"status": "fixed"}), b"\xff"])
def test_what_is_no_openvex_document_is_refused(data):
    with pytest.raises(InvalidInput):
        read_statements(data, (), NOW)
