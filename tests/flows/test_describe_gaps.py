"""What a bill of materials leaves open: provenance by class, known vulnerabilities, and whether it can ship. Nothing that was not looked at counts as good."""

import base64
import json

import pytest
from bom_world import SITE, environment, install

from vouchgate.evidence.bom.document import File, Model, Scan, write_bom
from vouchgate.evidence.bom.locks import GITHUB, identity_of
from vouchgate.evidence.bom.read import read_bom
from vouchgate.evidence.pep740 import Publisher
from vouchgate.flows.describe_gaps import Asked, look_up
from vouchgate.ports.artifact_files import Place
from vouchgate.vocabulary.errors import InvalidInput, Unverified
from vouchgate.vocabulary.vouches import UnixMillis

NOW = UnixMillis(1_790_000_000_000)
A, B, C = "aa" * 32, "bb" * 32, "cc" * 32
WHEEL = "alpha-1.0-py3-none-any.whl"


@pytest.fixture
def python(tmp_path):
    folder = tmp_path / "venv"
    folder.mkdir()
    (folder / "pyvenv.cfg").write_text("version = 3.11.4\n")
    return folder


def document(python=None, outcome="clean"):
    said = Model(
        name="m", digest=f"sha256:{A}", manifest=f"sha256-manifest:{B}", folder=False, files=(File(path="m", size=1, sha256=A),),
        scan=Scan(outcome=outcome, format="safetensors"),
    )  # fmt: skip
    found = environment(python) if python and (python / "lib").exists() else None
    return read_bom(write_bom(said, found, spec="1.6", timestamp="2026-01-31T12:00:00.000Z", version="1"))


def lock(*archives, name="alpha", version="1.0", identities=""):
    wheels = ", ".join(f'{{name = "{file}", hashes = {{sha256 = "{digest}"}}}}' for file, digest in archives)
    said = f"attestation-identities = [{identities}]\n" if identities else ""
    return f'lock-version = "1.0"\n[[packages]]\nname = "{name}"\nversion = "{version}"\nwheels = [{wheels}]\n{said}'.encode()


def asked(tmp_path, *, locks=(), attestations=None, verify=None, osv=None, vex=None, pins=(), demand="recorded"):
    def folder(name, files):
        if files is None:
            return None
        made = tmp_path / name
        made.mkdir()
        for file, content in files.items():
            (made / file).write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
        return Place(str(made))

    return Asked(
        locks=tuple(locks),
        pins=tuple(pins),
        attestations=folder("attestations", attestations),
        verify=verify,
        osv=folder("osv", osv),
        vex=folder("vex", vex),
        demand=demand,
    )


def classes(found):
    return {one.name: one.provenance for one in found.packages}


def attestation(digest):
    statement = base64.b64encode(json.dumps({"subject": [{"digest": {"sha256": digest}}]}).encode()).decode()
    return {"version": 1, "envelope": {"statement": statement}}


def publisher(repository="https://github.com/o/alpha"):
    identity = f"{repository}/.github/workflows/release.yml@refs/tags/v1"
    return Publisher(identity=identity, issuer=GITHUB, predicate="", signed_at=NOW, repository=repository)


def says(found=None):
    """An attestation that verifies for the digest that it is asked for."""
    return lambda data, filename, digest: found or publisher()


PIN = (("alpha", identity_of("https://github.com/o/alpha")),)
NONE = {"id": "GHSA-none", "modified": "2026-09-20T00:00:00Z", "affected": []}


def test_recorded_locked_attested(python, tmp_path):
    install(python, "alpha")
    bom = document(python)
    assert classes(look_up(bom, "b", asked(tmp_path), NOW)) == {"alpha": "recorded"}
    assert classes(look_up(bom, "b", asked(tmp_path, locks=[lock((WHEEL, A))]), NOW)) == {"alpha": "locked"}
    how = asked(tmp_path, locks=[lock((WHEEL, A))], attestations={f"{WHEEL}.publish.attestation": attestation(A)}, verify=says(), pins=PIN)
    found = look_up(bom, "b", how, NOW)
    assert classes(found) == {"alpha": "attested"} and found.packages[0].publisher == "https://github.com/o/alpha"


def test_a_provenance_object_of_the_index_is_opened(python, tmp_path):
    install(python, "alpha", sha256=A)
    bundle = {"version": 1, "attestation_bundles": [{"publisher": {}, "attestations": [attestation(B), attestation(A)]}]}
    found = look_up(document(python), "b", asked(tmp_path, attestations={f"{WHEEL}.provenance": bundle}, verify=says(), pins=PIN), NOW)
    assert classes(found) == {"alpha": "attested"}


def test_a_lock_file_may_name_the_publisher(python, tmp_path):
    install(python, "alpha")
    named = lock((WHEEL, A), identities='{kind = "GitHub", repository = "o/alpha", workflow = "release.yml"}')
    how = {"attestations": {f"{WHEEL}.attestation": attestation(A)}, "verify": says()}
    assert classes(look_up(document(python), "b", asked(tmp_path, locks=[named], **how), NOW)) == {"alpha": "attested"}


@pytest.mark.parametrize(
    ("pins", "found"),
    [
        ((), None),
        ((("alpha", identity_of("https://github.com/o/other")),), None),
        ((("beta", identity_of("https://github.com/o/alpha")),), None),
        (PIN, publisher("https://github.com/evil/alpha")),
    ],
    ids=range(4),
)
def test_who_attests_is_whom_somebody_named(python, tmp_path, pins, found):
    install(python, "alpha")
    how = asked(tmp_path, locks=[lock((WHEEL, A))], attestations={f"{WHEEL}.attestation": attestation(A)}, verify=says(found), pins=pins)
    (one,) = look_up(document(python), "b", how, NOW).packages
    assert one.provenance == "locked" and "nobody named" in one.why


@pytest.mark.parametrize(
    ("file", "digest"),
    [
        (f"{WHEEL}.attestation", B),
        ("beta-1.0-py3-none-any.whl.attestation", A),
        ("alpha-1.1-py3-none-any.whl.attestation", A),
        ("alpha-1.0-cp311-cp311-win_amd64.whl.attestation", C),
        ("alpha-1.0.tar.gz.attestation", A),
        (f"{WHEEL}.txt", A),
        ("nonsense.attestation", A),
    ],
)
def test_an_attestation_of_another_archive_says_nothing(python, tmp_path, file, digest):
    install(python, "alpha")
    locked = lock((WHEEL, A), ("alpha-1.0-cp311-cp311-win_amd64.whl", C))
    how = asked(tmp_path, locks=[locked], attestations={file: attestation(digest)}, verify=says(), pins=PIN)
    assert classes(look_up(document(python), "b", how, NOW)) == {"alpha": "locked"}


def test_an_attestation_that_does_not_hold_is_told_and_counts_for_nothing(python, tmp_path):
    install(python, "alpha")

    def refuse(data, filename, digest):
        raise Unverified("the log's proof does not hold", remedy="x")

    files = {f"{WHEEL}.attestation": attestation(A), "alpha-1.0.tar.gz.provenance": b"{", "big.attestation": b"x" * (2 * 1024 * 1024 + 1)}
    found = look_up(document(python), "b", asked(tmp_path, locks=[lock((WHEEL, A))], attestations=files, verify=refuse, pins=PIN), NOW)
    assert classes(found) == {"alpha": "locked"} and sum("does not hold" in note or "cannot be read" in note for note in found.notes) == 3


def test_a_lock_for_other_platforms_or_versions_binds_nothing(python, tmp_path):
    install(python, "alpha")
    bom = document(python)
    for other in (lock(("alpha-1.0-cp311-cp311-win_amd64.whl", A)), lock((WHEEL, A), version="1.1"), lock((WHEEL, A), name="beta")):
        assert classes(look_up(bom, "b", asked(tmp_path, locks=[other]), NOW)) == {"alpha": "recorded"}


def test_an_archive_that_is_none_of_the_locked_is_nothing(python, tmp_path):
    install(python, "alpha", sha256=B)
    bom = document(python)
    assert classes(look_up(bom, "b", asked(tmp_path), NOW)) == {"alpha": "locked"}
    assert classes(look_up(bom, "b", asked(tmp_path, locks=[lock((WHEEL, B))]), NOW)) == {"alpha": "locked"}
    (one,) = look_up(bom, "b", asked(tmp_path, locks=[lock((WHEEL, A))]), NOW).packages
    assert one.provenance == "nothing" and "none of the locked" in one.why


def test_an_altered_package_is_nothing_however_well_it_was_attested(python, tmp_path):
    install(python, "alpha", sha256=A)
    (python / SITE / "alpha/__init__.py").write_bytes(b"evil")
    how = asked(tmp_path, locks=[lock((WHEEL, A))], attestations={f"{WHEEL}.attestation": attestation(A)}, verify=says(), pins=PIN)
    found = look_up(document(python), "b", how, NOW)
    assert classes(found) == {"alpha": "nothing"} and any("not as recorded" in reason for reason in found.against)


def test_without_a_record_it_is_nothing(python, tmp_path):
    (install(python, "alpha") / "RECORD").unlink()
    found = look_up(document(python), "b", asked(tmp_path, osv={"a.json": NONE}), NOW)
    assert classes(found) == {"alpha": "nothing"}
    assert any("belong to no package" in reason for reason in found.against)


@pytest.mark.parametrize(("demand", "ships"), [("recorded", True), ("locked", False), ("attested", False)])
def test_what_is_demanded_of_every_package(python, tmp_path, demand, ships):
    install(python, "alpha")
    assert look_up(document(python), "b", asked(tmp_path, osv={"a.json": NONE}, demand=demand), NOW).ships == ships


VULNERABLE = {
    "id": "GHSA-1", "modified": "2026-09-20T00:00:00Z", "aliases": ["CVE-1"],
    "affected": [{"package": {"ecosystem": "PyPI", "name": "Alpha"}, "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}]}]}],
}  # fmt: skip
TWIN = VULNERABLE | {"id": "PYSEC-1"}


def statement(status="not_affected", **more):
    said = {"vulnerability": {"name": "CVE-1"}, "products": [{"@id": "pkg:pypi/alpha@1.0"}], "status": status}
    one = said | ({"justification": "component_not_present"} if status == "not_affected" else {}) | more
    return {"@context": "https://openvex.dev/ns/v0.2.0", "author": "us", "timestamp": "2026-09-01T00:00:00Z", "statements": [one]}


@pytest.mark.parametrize(
    ("vex", "ships", "state"),
    [
        (None, False, "affected"),
        ({"v.json": statement()}, True, "not_affected"),
        ({"v.json": statement("fixed")}, True, "fixed"),
        ({"v.json": statement("under_investigation")}, False, "under_investigation"),
        ({"v.json": statement(justification="")}, False, "affected"),
        ({"v.json": statement(timestamp="2099-01-01T00:00:00Z")}, False, "affected"),
        ({"v.json": statement(products=[{"@id": "pkg:pypi/alpha@1.1"}])}, False, "affected"),
        ({"v.json": b"{"}, False, "affected"),
        ({"v.txt": statement()}, False, "affected"),
    ],
)
def test_only_a_statement_that_counts_closes_a_finding(python, tmp_path, vex, ships, state):
    install(python, "alpha")
    found = look_up(document(python), "b", asked(tmp_path, osv={"a.json": VULNERABLE, "b.json": TWIN}, vex=vex), NOW)
    (one,) = found.findings
    assert (one.id, one.state, found.ships) == ("CVE-1", state, ships)


def test_the_model_is_a_product_by_its_serial_number(python, tmp_path):
    install(python, "alpha")
    bom = document(python)
    inside = statement(products=[{"@id": bom.serial, "subcomponents": [{"@id": "pkg:pypi/alpha"}]}])
    assert look_up(bom, "b", asked(tmp_path, osv={"a.json": VULNERABLE}, vex={"v.json": inside}), NOW).ships


def test_nothing_speaks_against_a_model_without_packages(tmp_path):
    assert look_up(document(), "b", asked(tmp_path), NOW).ships


@pytest.mark.parametrize(
    ("osv", "why"),
    [
        (None, "nobody looked"),
        ({"a.json": NONE, "b.json": b"{"}, "cannot be read"),
        ({"a.json": NONE | {"modified": "2026-01-01T00:00:00Z"}}, "days old"),
        ({"a.json": NONE | {"modified": "2099-01-01T00:00:00Z"}}, "days old"),
        ({"a.json": NONE | {"modified": "yesterday"}}, "days old"),
    ],
    ids=range(5),
)
def test_what_nobody_looked_at_speaks_against_shipping(python, tmp_path, osv, why):
    install(python, "alpha")
    found = look_up(document(python), "b", asked(tmp_path, osv=osv), NOW)
    assert not found.ships and any(why in reason for reason in found.against)


def test_a_folder_without_records_is_no_answer(python, tmp_path):
    install(python, "alpha")
    with pytest.raises(InvalidInput, match="holds no record"):
        look_up(document(python), "b", asked(tmp_path, osv={"a.txt": NONE}), NOW)


@pytest.mark.parametrize("outcome", ["refused", "review", "incomplete"])
def test_a_model_that_is_not_clean_does_not_ship(tmp_path, outcome):
    found = look_up(document(outcome=outcome), "b", asked(tmp_path), NOW)
    assert found.against == (f"the scan of the model says {outcome}",)


def foreign(*components):
    return read_bom(json.dumps({"bomFormat": "CycloneDX", "specVersion": "1.6", "version": 1, "components": list(components)}).encode())


def test_another_tools_document_says_less_and_ships_not(tmp_path):
    bom = foreign(
        {"type": "library", "name": "alpha", "version": "1.0", "purl": "pkg:pypi/alpha@1.0"},
        {"type": "library", "name": "left-pad", "purl": "pkg:npm/left-pad@1"},
    )
    found = look_up(bom, "b", asked(tmp_path, osv={"a.json": VULNERABLE}), NOW)
    assert len(found.findings) == 1 and classes(found) == {"alpha": "nothing"}
    assert {"nobody scanned the model: the document has no verdict", "left-pad is of no kind that is looked up here"} <= set(found.against)


def test_a_document_that_is_not_sound_is_looked_at_no_further(tmp_path):
    found = look_up(foreign({"type": "car", "name": "x"}), "b", asked(tmp_path), NOW)
    assert not found.ships and found.against[0].startswith("the document is not sound")


def test_two_of_one_name_are_two(python, tmp_path):
    install(python, "alpha")
    install(python, "alpha", "2.0", files={"other.py": b""})
    found = look_up(document(python), "b", asked(tmp_path, locks=[lock((WHEEL, A))], osv={"a.json": VULNERABLE}), NOW)
    assert sorted((one.version, one.provenance) for one in found.packages) == [("1.0", "locked"), ("2.0", "recorded")]
    assert len(found.findings) == 2
