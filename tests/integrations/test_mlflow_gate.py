"""A real MLflow server lets a version go live only on evidence about its bytes, by whatever way it is asked, and keeps those bytes as they were."""

from __future__ import annotations

import concurrent.futures
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from mlflow_gate_server import THERE, WHY_NOT, Mlflow, running

from vouchgate.vocabulary.digests import file_digest, tree_digest

pytestmark = [pytest.mark.system, pytest.mark.skipif(not THERE, reason=WHY_NOT)]
FILES = {"MLmodel": b"flavors: {}\n", "model.onnx": b"a model", "data/notes.txt": b"notes"}
MARKS = "alias:* stage:production stage:staging tag:status=approved"


@pytest.fixture(scope="module")
def server() -> Iterator[Mlflow]:
    with running(GUARD=MARKS) as made:
        yield made


@pytest.fixture
def fresh(server: Mlflow, request: pytest.FixtureRequest) -> tuple[str, str, str]:
    """A model's name, version, and folder of artifacts."""
    name = f"m{abs(hash(request.node.name))}"
    files = FILES | {"who.txt": name.encode()}
    version, folder = server.version(name, files)
    server.control.allowed = set()
    return name, version, folder


def digest_of(name: str, **more: bytes) -> str:
    files = FILES | {"who.txt": name.encode()} | more
    return tree_digest((path.encode(), file_digest(data)) for path, data in files.items()).text


def test_what_is_asked_about_is_the_digest_of_the_versions_folder(server: Mlflow, fresh: tuple[str, str, str]) -> None:
    name, version, _ = fresh
    status, why = server.alias(name, "champion", version)
    assert status == 403
    assert "missing `scan`" in why
    assert "vouchgate import FILE" in why
    asked = server.control.asked[-1]
    assert (asked["digest"], asked["act"], asked["subject"]) == (digest_of(name), "promote", f"models:/{name}/{version} alias champion")
    server.control.allowed = {digest_of(name)}
    assert server.alias(name, "champion", version) == (200, "")
    status, said = server.resolved(name, "champion")
    assert (status, said["model_version"]["version"]) == (200, version)


WAYS = [
    ("registered-models/alias", {"alias": "champion"}),
    ("model-versions/transition-stage", {"stage": "Production", "archive_existing_versions": False}),
    ("model-versions/transition-stage", {"stage": "prodUCTION", "archive_existing_versions": False}),
    ("model-versions/set-tag", {"key": "status", "value": "approved"}),
    ("model-versions/set-tag", {"key": "Status ", "value": " APPROVED"}),
]


@pytest.mark.parametrize("prefix", ["/api", "/ajax-api"])
@pytest.mark.parametrize(("path", "more"), WAYS)
def test_no_way_leads_to_a_mark_without_evidence(
    server: Mlflow, fresh: tuple[str, str, str], prefix: str, path: str, more: dict[str, str]
) -> None:
    name, version, _ = fresh
    status, said = server.ask("POST", f"{prefix}/2.0/mlflow/{path}", {"name": name, "version": version} | more)
    assert (status, said["error_code"]) == (403, "PERMISSION_DENIED"), said
    found = server.ask("GET", f"/api/2.0/mlflow/model-versions/get?name={name}&version={version}")[1]["model_version"]
    assert (found.get("aliases"), found.get("tags"), found["current_stage"]) == (None, None, "None")
    server.control.allowed = {digest_of(name)}
    assert server.ask("POST", f"{prefix}/2.0/mlflow/{path}", {"name": name, "version": version} | more)[0] == 200


def test_a_version_is_not_born_with_a_mark(server: Mlflow, fresh: tuple[str, str, str]) -> None:
    name, version, _ = fresh
    tags = [{"key": "a", "value": "b"}, {"key": "status", "value": "approved"}]
    status, said = server.ask(
        "POST", "/api/2.0/mlflow/model-versions/create", {"name": name, "source": f"models:/{name}/{version}", "tags": tags}
    )
    assert status == 403
    assert "create it, then set the tag" in said["message"]
    status, _ = server.ask(
        "POST", "/api/2.0/mlflow/model-versions/create", {"name": name, "source": f"models:/{name}/{version}", "tags": tags[:1]}
    )
    assert status == 200


def test_graphql_changes_nothing(server: Mlflow, fresh: tuple[str, str, str]) -> None:
    name, version, _ = fresh
    query = (
        f'mutation {{ mlflowSetRegisteredModelAlias(input: {{name: "{name}", alias: "champion", version: "{version}"}}) {{ __typename }} }}'
    )
    status, said = server.ask("POST", "/graphql", {"query": query})
    assert status != 200 or said.get("errors"), said
    assert server.resolved(name, "champion")[0] != 200


def test_what_is_not_guarded_works_as_before(server: Mlflow, fresh: tuple[str, str, str]) -> None:
    name, version, folder = fresh
    asked = len(server.control.asked)
    server.do("model-versions/set-tag", {"name": name, "version": version, "key": "status", "value": "trial"})
    server.do(
        "model-versions/transition-stage", {"name": name, "version": version, "stage": "Archived", "archive_existing_versions": False}
    )
    server.do("model-versions/update", {"name": name, "version": version, "description": "new"}, method="PATCH")
    assert server.upload(f"{folder}/more.txt", b"more")[0] == 200
    assert len(server.control.asked) == asked


CHANGES = [
    ("PUT", "/api/2.0/mlflow-artifacts/artifacts/{folder}/model.onnx"),
    ("PUT", "/ajax-api/2.0/mlflow-artifacts/artifacts/{folder}/model.onnx"),
    ("PUT", "/api/2.0/mlflow-artifacts/artifacts/{folder}/data/new.txt"),
    ("PUT", "/api/2.0/mlflow-artifacts/artifacts/{folder}%2Fmodel.onnx"),
    ("PUT", "/api/2.0/mlflow-artifacts/artifacts//{folder}/./model.onnx"),
    ("DELETE", "/api/2.0/mlflow-artifacts/artifacts/{folder}/model.onnx"),
    ("DELETE", "/ajax-api/2.0/mlflow-artifacts/artifacts/{folder}"),
    ("DELETE", "/api/2.0/mlflow-artifacts/artifacts/{above}"),
    ("DELETE", "/api/2.0/mlflow-artifacts/artifacts/0"),
]


def test_what_went_live_is_not_written_to_any_more(server: Mlflow, fresh: tuple[str, str, str]) -> None:
    name, version, folder = fresh
    server.control.allowed = {digest_of(name)}
    assert server.alias(name, "champion", version)[0] == 200
    before = {path: path.read_bytes() for path in sorted((server.artifacts / folder).rglob("*")) if path.is_file()}
    for method, path in CHANGES:
        url = path.format(folder=folder, above=folder.rpartition("/")[0])
        status, _ = server.ask(method, url, raw=b"other bytes" if method == "PUT" else b"")
        assert status >= 400, (method, path)
        assert {one: one.read_bytes() for one in sorted((server.artifacts / folder).rglob("*")) if one.is_file()} == before, path
    run = folder.split("/")[1]
    status, said = server.ask("POST", f"/ajax-api/2.0/mlflow/upload-artifact?run_uuid={run}&path=model/model.onnx", raw=b"other bytes")
    assert {one: one.read_bytes() for one in sorted((server.artifacts / folder).rglob("*")) if one.is_file()} == before, (status, said)
    # the mark may go; the bytes stay
    server.do("registered-models/alias", {"name": name, "alias": "champion"}, method="DELETE")
    assert server.upload(f"{folder}/model.onnx", b"other bytes")[0] == 403
    assert server.upload(f"{folder.rpartition('/')[0]}/elsewhere.txt", b"fine")[0] == 200
    # the version may go, and its bytes with it
    server.do("model-versions/delete", {"name": name, "version": version}, method="DELETE")
    assert server.upload(f"{folder}/model.onnx", b"other bytes")[0] == 200


def test_a_live_model_that_is_declared_a_prompt_stays_held(server: Mlflow, fresh: tuple[str, str, str]) -> None:
    name, version, folder = fresh
    server.control.allowed = {digest_of(name)}
    assert server.alias(name, "champion", version)[0] == 200
    server.do("registered-models/set-tag", {"name": name, "key": "mlflow.prompt.is_prompt", "value": "true"})
    assert server.upload(f"{folder}/model.onnx", b"other bytes")[0] == 403
    assert server.alias(name, "next", version)[0] == 200
    server.control.allowed = set()
    assert server.alias(name, "third", version)[0] == 403


def test_the_other_version_of_the_same_bytes_is_held_too(server: Mlflow, fresh: tuple[str, str, str]) -> None:
    name, version, folder = fresh
    copy = server.do("model-versions/create", {"name": name, "source": f"models:/{name}/{version}"})["model_version"]["version"]
    server.control.allowed = {digest_of(name)}
    assert server.alias(name, "champion", str(copy))[0] == 200
    assert server.upload(f"{folder}/model.onnx", b"other bytes")[0] == 403


def test_what_is_revoked_is_not_handed_out_under_its_alias(server: Mlflow, fresh: tuple[str, str, str]) -> None:
    name, version, _ = fresh
    server.control.allowed, server.control.hold_ms = {digest_of(name)}, 0
    try:
        assert server.alias(name, "champion", version)[0] == 200
        server.do(
            "model-versions/transition-stage", {"name": name, "version": version, "stage": "Production", "archive_existing_versions": False}
        )
        assert server.resolved(name, "champion")[0] == 200
        server.control.allowed = set()
        assert server.resolved(name, "champion")[0] == 403
        latest = server.ask("POST", "/api/2.0/mlflow/registered-models/get-latest-versions", {"name": name, "stages": ["Production"]})
        assert latest[0] == 403
    finally:
        server.control.hold_ms = 1_000


def test_a_name_that_is_used_again_inherits_nothing(server: Mlflow, fresh: tuple[str, str, str]) -> None:
    name, version, folder = fresh
    server.control.allowed = {digest_of(name)}
    assert server.alias(name, "champion", version)[0] == 200
    server.do("registered-models/rename", {"name": name, "new_name": f"{name}-b"})
    assert server.resolved(f"{name}-b", "champion")[0] == 200
    again, _ = server.version(name, {"model.onnx": b"evil"})
    assert again == version
    assert server.alias(name, "champion", again)[0] == 403
    server.do("registered-models/delete", {"name": f"{name}-b"}, method="DELETE")
    assert server.upload(f"{folder}/model.onnx", b"free again")[0] == 200
    other, _ = server.version(f"{name}-b", {"model.onnx": b"evil"})
    assert server.alias(f"{name}-b", "champion", other)[0] == 403
    server.sql(
        "insert into registered_model_aliases (name, alias, version, workspace) values (?, ?, ?, 'default')", f"{name}-b", "champion", other
    )
    status, said = server.resolved(f"{name}-b", "champion")
    assert status == 403
    assert "past the gate" in said["message"]


def test_a_version_whose_source_is_elsewhere_is_not_fetched(server: Mlflow, fresh: tuple[str, str, str]) -> None:
    """Nor is what lies here under the path of an address that names somebody else's server: a client would load it from there."""
    name, _, folder = fresh
    server.control.allowed = {digest_of(name)}
    with socket.create_server(("127.0.0.1", 0)) as trap:
        there = f"127.0.0.1:{trap.getsockname()[1]}"
        trap.settimeout(0.2)
        tried = 0
        for source in (
            f"http://{there}/m",
            f"ftp://{there}/m",
            f"http://{there}/api/2.0/mlflow-artifacts/artifacts/{folder}",
            f"mlflow-artifacts://{there}/{folder}",
            f"mlflow-artifacts:/{folder}?x",
            f"mlflow-artifacts:/{folder.replace('/model', '%2fmodel')}",
            f"mlflow-artifacts:/{folder.replace('/model', '//model')}",
            f"mlflow-artifacts:/{folder.replace('/model', '/./model')}",
            f"mlflow-artifacts:/{folder}/",
            f"{server.artifacts}/{folder}",
            f"file://{server.artifacts}/{folder}",
        ):
            asked = {"name": name, "source": source, "run_id": folder.split("/")[1]}
            for one in (asked, {key: value for key, value in asked.items() if key != "run_id"}):
                status, said = server.ask("POST", "/api/2.0/mlflow/model-versions/create", one)
                if status == 200:
                    tried += 1
                    assert server.alias(name, "champion", said["model_version"]["version"])[0] == 403, source
        assert tried > 2
        with pytest.raises(TimeoutError):
            trap.accept()


@pytest.mark.parametrize(
    "source",
    [
        "mlflow-artifacts://127.0.0.1:1/{}",
        "http://127.0.0.1:1/api/2.0/mlflow-artifacts/artifacts/{}",
        "mlflow-artifacts:/{}/",
        "file://{}/",
    ],
)
def test_a_source_that_stands_in_the_database_past_mlflows_own_checks_is_none(
    server: Mlflow, fresh: tuple[str, str, str], source: str
) -> None:
    name, version, folder = fresh
    server.control.allowed = {digest_of(name)}
    text = source.format(server.artifacts / folder if source.startswith("file") else folder)
    server.sql("update model_versions set storage_location = ?, source = ? where name = ?", text, text, name)
    status, why = server.alias(name, "champion", version)
    assert status == 403
    assert "is not stored by this server" in why


def test_links_and_emptiness_in_the_store_are_refused(server: Mlflow, fresh: tuple[str, str, str]) -> None:
    name, version, folder = fresh
    (server.artifacts / folder / "link").symlink_to("/etc/hostname")
    server.control.allowed = {digest_of(name)}
    status, why = server.alias(name, "champion", version)
    assert status == 403
    assert "link" in why


def test_without_the_control_plane_nothing_goes_live_and_no_alias_is_read(server: Mlflow, fresh: tuple[str, str, str]) -> None:
    name, version, _ = fresh
    server.control.allowed, server.control.hold_ms = {digest_of(name)}, 0
    try:
        assert server.alias(name, "champion", version)[0] == 200
        for answer in (b"", b"{}", b'{"allowed": true}', b"[" * 100_000):
            server.control.answer = answer
            assert server.resolved(name, "champion")[0] == 403
            assert server.alias(name, "next", version)[0] == 403
    finally:
        server.control.answer, server.control.hold_ms = None, 1_000


def test_a_write_during_the_promotion_meets_a_refusal_on_one_side(server: Mlflow, fresh: tuple[str, str, str]) -> None:
    """An upload that began before is seen by the promotion; one that begins later sees the promotion. Never do both succeed with other bytes."""
    name, version, folder = fresh
    server.control.allowed = {digest_of(name)}
    with socket.create_connection(("127.0.0.1", server.port)) as slow:
        head = f"PUT /api/2.0/mlflow-artifacts/artifacts/{folder}/model.onnx HTTP/1.1\r\nhost: localhost\r\ncontent-length: 9\r\n\r\nother"
        slow.sendall(head.encode())
        end = time.monotonic() + 30
        while not list((server.state / "writing").iterdir()) and time.monotonic() < end:
            time.sleep(0.02)
        status, why = server.alias(name, "champion", version)
        assert status == 403
        assert "are being written" in why or "link" in why
    end = time.monotonic() + 30
    while list((server.state / "writing").iterdir()) and time.monotonic() < end:
        time.sleep(0.02)
    assert server.alias(name, "champion", version)[0] == 200


def test_a_write_that_begins_during_the_promotion_is_refused(
    server: Mlflow, fresh: tuple[str, str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    name, version, folder = fresh
    server.control.allowed = {digest_of(name)}
    asked, go, reply = threading.Event(), threading.Event(), server.control.reply

    def slow(path: str, body: dict[str, Any]) -> dict[str, Any]:
        asked.set()
        go.wait(8)
        return reply(path, body)

    monkeypatch.setattr(server.control, "reply", slow)
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        promoted = pool.submit(server.alias, name, "champion", version)
        try:
            assert asked.wait(30)
            for path in (f"{folder}/model.onnx", f"{folder}/new.txt"):
                status, said = server.upload(path, b"other bytes")
                assert status == 403, said
                assert "going live" in said["message"]
            assert server.ask("DELETE", f"/api/2.0/mlflow-artifacts/artifacts/{folder}")[0] == 403
            assert server.upload(f"{folder.rpartition('/')[0]}/elsewhere.txt", b"fine")[0] == 200
        finally:
            go.set()
        assert promoted.result() == (200, "")
    assert server.upload(f"{folder}/model.onnx", b"other bytes")[0] == 403


def test_of_many_writes_and_promotions_at_once_none_leaves_other_bytes_live(server: Mlflow) -> None:
    server.control.hold_ms = 0
    try:
        for turn in range(6):
            name = f"race{turn}"
            version, folder = server.version(name, FILES | {"who.txt": name.encode()})
            server.control.allowed = {digest_of(name)}
            with concurrent.futures.ThreadPoolExecutor(8) as pool:
                writes = [pool.submit(server.upload, f"{folder}/model.onnx", b"other") for _ in range(3)]
                sets = [pool.submit(server.alias, name, "champion", version) for _ in range(3)]
                writes += [pool.submit(server.upload, f"{folder}/new-{n}.txt", b"other") for n in range(2)]
                live = any(one.result()[0] == 200 for one in sets)
                [one.result() for one in writes]
            now = {
                str(p.relative_to(server.artifacts / folder)): p.read_bytes() for p in (server.artifacts / folder).rglob("*") if p.is_file()
            }
            assert not live or now == FILES | {"who.txt": name.encode()}, turn
    finally:
        server.control.hold_ms = 1_000


def test_the_gate_holds_under_gunicorn() -> None:
    with running(workers=1, options=("--gunicorn-opts", "--timeout 120")) as made:
        version, folder = made.version("m", FILES)
        assert made.alias("m", "champion", version)[0] == 403
        made.control.allowed = {made.control.asked[-1]["digest"]}
        assert made.alias("m", "champion", version)[0] == 200
        assert made.upload(f"{folder}/model.onnx", b"other bytes")[0] == 403
        upload = f"/ajax-api/2.0/mlflow/upload-artifact?run_uuid={folder.split('/')[1]}&path=model/model.onnx"
        assert made.ask("POST", upload, raw=b"other bytes")[0] == 403
        assert (made.artifacts / folder / "model.onnx").read_bytes() == FILES["model.onnx"]


def test_the_gate_holds_before_mlflows_own_accounts() -> None:
    more = {"MLFLOW_FLASK_SERVER_SECRET_KEY": "a secret of this test", "MLFLOW_AUTH_ADMIN_PASSWORD": "a password of 20 characters"}
    more |= {"MLFLOW_AUTH_ADMIN_USERNAME": "admin"}
    with running(workers=1, more=more, APP="basic-auth") as made:
        assert made.ask("GET", "/api/2.0/mlflow/experiments/search?max_results=1")[0] == 401
        made.login = "admin:a password of 20 characters"
        version, folder = made.version("m", FILES)
        assert made.alias("m", "champion", version)[0] == 403
        made.control.allowed = {made.control.asked[-1]["digest"]}
        assert made.alias("m", "champion", version)[0] == 200
        assert made.upload(f"{folder}/model.onnx", b"other bytes")[0] == 403
        made.login = ""
        assert made.alias("m", "champion", version)[0] == 401


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"GARD": "alias:*"}, "VOUCHGATE_MLFLOW_GARD"),
        ({"SOCKET": ""}, "no absolute path"),
        ({"GUARD": "champion"}, "names nothing"),
        ({"APP": "vouchgate"}, "behind itself"),
    ],
)
def test_a_gate_that_is_set_up_wrongly_does_not_serve(settings: dict[str, str], says: str) -> None:
    with running(workers=1, expect=False, **settings) as made:
        assert says in (made.folder / "log").read_text("utf-8", "replace")
        with pytest.raises(OSError):
            made.ask("GET", "/health")
