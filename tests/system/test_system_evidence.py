"""Evidence that goes bad takes its endpoint along, in observe too; a legacy server is put behind the gateway and moved between the modes."""

from __future__ import annotations

import contextlib
import http.server
import pickle
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from installation import MODEL, Answer, Caller, Installation, mine

from vouchgate.evidence.bom.read import read_bom
from vouchgate.vocabulary.answers import RevokeOutcome
from vouchgate.vocabulary.answers_decisions import EndpointState


class Legacy(http.server.BaseHTTPRequestHandler):
    """An old server: no TLS, no identity, any path."""

    def do_GET(self) -> None:
        body = f"{self.command} {self.path}".encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("content-length", 0)))
        self.do_GET()

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture(scope="module")
def legacy() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Legacy)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()


def endpoint(house: Installation, name: str) -> EndpointState:
    return next(one for one in house.client.get(tuple[EndpointState, ...], "/api/v1/endpoints") if one.endpoint.id.endswith(f"/{name}"))


def plain(house: Installation, path: str, *, method: str = "GET", body: bytes = b"", headers: str = "") -> Answer:
    head = f"{method} {path} HTTP/1.1\r\nhost: localhost\r\n{headers}content-length: {len(body)}\r\nconnection: close\r\n\r\n"
    return house.raw(None, head.encode() + body, plain=True)


# --- a model's evidence -----------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def revoked(house: Installation, target: str, kind: str) -> Iterator[RevokeOutcome]:
    """Withdrawn inside, undone after."""
    made = house.revoke(target, kind)
    assert made.revocation is not None
    try:
        yield made
    finally:
        house.undo(made.revocation.id)


def test_a_model_whose_digest_is_revoked_is_refused_for_everyone_within_the_second_and_restored_by_undo(
    house: Installation, alice: Caller
) -> None:
    digest = endpoint(house, "digits").endpoint.model_digest
    began = time.monotonic()
    with revoked(house, digest, "digest") as made:
        house.until(lambda: house.infer(alice).status != 200, 1.0, "the model still answered")
        assert time.monotonic() - began < 1.0
        assert any(one.endswith("/digits") for one in made.endpoints)
        answer = house.infer(alice)
        assert answer.status == 403 and answer.problem["remedy"], answer
        assert house.bearer(house.token("alice")).status == 403
        house.until(lambda: endpoint(house, "digits").verdict == "refused", 2, "`status` says that it is served")
    house.until(lambda: house.infer(alice).status == 200, 5, "undo did not restore it")
    house.until(lambda: endpoint(house, "digits").verdict == "served", 2)


@pytest.mark.parametrize("predicate", ["scan", "structure", "import", "serves"])
def test_a_single_vouch_that_is_revoked_takes_the_endpoint_along(house: Installation, alice: Caller, predicate: str) -> None:
    house.until(lambda: house.infer(alice).status == 200, 5)
    vouch = next(one for one in endpoint(house, "digits").vouches if one.predicate == predicate and one.state == "holds")
    with revoked(house, vouch.id, "vouch"):
        house.until(lambda: house.infer(alice).status == 403, 1.0, f"without its `{predicate}` vouch the model still answered")
    house.until(lambda: house.infer(alice).status == 200, 5, "undo did not restore it")


def test_a_key_that_is_revoked_takes_its_vouches_along(house: Installation, alice: Caller) -> None:
    vouch = next(one for one in endpoint(house, "digits").vouches if one.predicate == "scan")
    with revoked(house, vouch.issuer_key, "key"):
        house.until(lambda: house.infer(alice).status == 403, 1.0, "a vouch of a revoked key still counts")
    house.until(lambda: house.infer(alice).status == 200, 5)


def test_a_bill_of_materials_says_what_is_vouched_for_and_is_told_when_it_falls(house: Installation, tmp_path: Path) -> None:
    document = tmp_path / "digits.cdx.json"
    done = house.cli("bom", "make", str(MODEL), "--control", "-o", str(document))
    assert done.returncode == 0, done.stderr
    found = read_bom(document.read_bytes())
    assert found.faults == () and {"scan", "structure", "import"} <= {one.predicate for one in found.vouches if one.standing == "held"}
    assert house.cli("bom", "verify", str(document), str(MODEL), "--control").returncode == 0
    vouch = next(one for one in found.vouches if one.predicate == "structure")
    with revoked(house, vouch.id, "vouch"):
        again = house.cli("bom", "verify", str(document), "--control")
        assert again.returncode == 1 and f"changed: vouch structure {vouch.id[:16]}" in again.stdout
    assert house.cli("bom", "verify", str(document), "--control").returncode == 0


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (print, ("ran",))


def test_a_pickle_is_refused_at_import_with_a_remedy_and_never_run(house: Installation, tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    path.write_bytes(pickle.dumps(Evil()))
    made = house.take_in(path)
    assert not made.admitted and made.reason and "safetensors" in made.remedy.lower() + made.reason.lower() + str(made.findings).lower()
    done = house.cli("import", str(path))
    assert done.returncode == 1 and "ran" not in done.stdout.splitlines()


def test_a_renamed_pickle_and_a_cut_off_model_are_refused(house: Installation, tmp_path: Path) -> None:
    for name, data in {
        "a.onnx": pickle.dumps(Evil()),
        "b.safetensors": b"\x10\0\0\0\0\0\0\0{",
        "c.onnx": b"",
        "d.bin": b"\0" * 100,
    }.items():
        (tmp_path / name).write_bytes(data)
        assert not house.take_in(tmp_path / name).admitted, name


def test_a_revoked_caller_is_refused_at_once_and_an_undo_lets_it_in_again(house: Installation, alice: Caller) -> None:
    other = house.caller("mallory")
    house.until(lambda: house.infer(other).status == 200, 5)
    made = house.revoke(other.principal, "principal")
    assert [point.outcome for point in made.points] == ["enforced"] * len(made.points) and made.points
    assert house.infer(other).status == 403
    assert house.infer(alice).status == 200
    assert made.revocation is not None
    house.undo(made.revocation.id)
    house.until(lambda: house.infer(other).status == 200, 5)


# --- a legacy server -------------------------------------------------------------------------------------------------------------


def test_a_legacy_server_in_observe_breaks_nothing_and_is_adopted_and_taken_back(house: Installation, legacy: str, alice: Caller) -> None:
    meanwhile: list[int] = []
    ended = threading.Event()
    beside = threading.Thread(target=lambda: [meanwhile.append(house.infer(alice).status) for _ in iter(ended.is_set, True)])
    beside.start()
    try:
        assert house.wrap("old", legacy).mode == "observe"
        house.until(lambda: plain(house, "/old/").status == 200, 3, "the legacy server is not reached")
        time.sleep(0.5)
    finally:
        ended.set()
        beside.join()
    assert len(meanwhile) > 5 and set(meanwhile) == {200}, meanwhile
    for method, path, body in (
        ("GET", "/old/", b""),
        ("GET", "/old/a/b?c=d&e=%20f", b""),
        ("POST", "/old/x.php", b"y" * 100_000),
        ("DELETE", "/old/z", b""),
    ):
        answer = plain(house, path, method=method, body=body)
        # the method that the old server does not know is its own answer
        assert answer.status == (501 if method == "DELETE" else 200), (method, path, answer)
        if method != "DELETE":
            assert answer.body.decode() == f"{method} {path.removeprefix('/old')}"
    assert plain(house, "/old/k", headers="x-api-key: abcdef-0123456789\r\n").status == 200
    house.until(lambda: house.adopt("legacy-old", "plan").calls_seen >= 5, 5, "the calls were not seen")
    plan = house.adopt("legacy-old", "plan")
    assert plan.would_refuse
    assert all(not one.authenticated and "declared" in one.principal and one.reason and one.remedy for one in plan.would_refuse)
    seen = [mine(entry) for entry in house.entries() if entry.kind == "request-end" and "/old" in str(mine(entry).get("detail"))]
    assert seen
    enforced = house.adopt("legacy-old", "enforce")
    assert enforced.now == "enforce"
    house.until(lambda: plain(house, "/old/").status in (401, 403), 1.0, "enforcing lets a caller without identity in")
    assert plain(house, "/old/").problem["remedy"]
    began = time.monotonic()
    assert house.adopt("legacy-old", "observe").now == "observe"
    house.until(lambda: plain(house, "/old/").status == 200, 1.0, "observe does not let in")
    assert time.monotonic() - began < 1.0


def test_observe_does_not_let_a_revoked_caller_in(house: Installation, alice: Caller) -> None:
    gone = house.caller("gone")
    house.until(lambda: house.infer(gone).status == 200, 5)
    house.adopt("serve", "observe")
    try:
        house.revoke(gone.principal, "principal")
        assert house.infer(gone).status == 403
        house.until(lambda: house.infer(house_victor(house)).status == 200, 3, "observe refuses")
    finally:
        house.adopt("serve", "enforce")


def house_victor(house: Installation) -> Caller:
    return house.caller("victor", ("visitors",))


def test_observe_does_not_let_refused_evidence_pass(house: Installation, alice: Caller) -> None:
    digest = endpoint(house, "digits").endpoint.model_digest
    house.adopt("serve", "observe")
    try:
        house.until(lambda: house.infer(None).status == 200, 5)
        with revoked(house, digest, "digest"):
            house.until(lambda: house.infer(alice).status == 403, 1.0, "a revoked model answers in observe")
            time.sleep(0.5)
            assert house.infer(alice).status == 403
            assert house.infer(None).status in (401, 403)
        house.until(lambda: house.infer(None).status == 200, 5, "undo did not bring observe back")
    finally:
        house.adopt("serve", "enforce")
    house.until(lambda: house.infer(alice).status == 200, 5)


def test_observe_lets_nobody_in_who_fails_to_prove_an_identity(house: Installation, alice: Caller) -> None:
    house.adopt("serve", "observe")
    try:
        token = house.token("alice")
        head, claims, signature = token.split(".")
        assert house.bearer(f"{head}.{claims}.{'A' * len(signature)}").status == 401
    finally:
        house.adopt("serve", "enforce")
