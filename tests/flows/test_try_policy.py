"""Decision vectors: what they must notice, what they refuse, and that every pack's own hold in process and through a real Envoy."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from vouchgate.edges.cli.main import main
from vouchgate.flows.imagined import imagine
from vouchgate.flows.try_policy import in_process, read_vectors
from vouchgate.policy.catalog import pack, packs
from vouchgate.policy.check import check
from vouchgate.policy.load import Source
from vouchgate.vocabulary.errors import InvalidInput, LimitExceeded, VouchgateError
from vouchgate.vocabulary.vouches import UnixMillis

NOW = UnixMillis(1_790_000_000_000)
PACKS = Path(__file__).resolve().parents[2] / "src" / "vouchgate" / "policy" / "packs"
FILES = sorted(path.name for path in PACKS.glob("*.vectors.toml"))
WORLD = """
trust_domain = "test.local"
policies = ["mine.cedar"]
revoked = ["service/serve/lost"]
[principals]
"service/serve/alice" = { groups = ["callers"] }
"service/serve/lost" = { groups = ["callers"] }
"service/serve/risky" = { groups = ["callers"], risk = 60 }
[endpoints.digits]
zone = "serve"
serves = "artifact/good"
vouches = ["serves"]
routes = ["POST /v1/models/{name}/infer infer", "GET /ready describe"]
[assets]
"artifact/good" = { vouches = ["scan"] }
"""
MINE = """@id("may") permit (principal in Group::"callers", action == Action::"infer", resource is Endpoint)
when { resource has model && resource.model.vouches.contains("scan") && context.risk < 60 };
@id("by-day") permit (principal in Group::"callers", action == Action::"describe", resource is Endpoint)
when { context has hour && context.hour < 12 };
"""
CASE = '[[cases]]\nwho = "service/serve/alice"\naction = "infer"\nwhat = "endpoint/digits"\nexpect = "allow"\n'


def run(text: str, policy: str = MINE):
    vectors = read_vectors(text, "x.toml")
    return in_process(vectors, imagine(vectors, [("mine.cedar", policy)], "tcp:127.0.0.1:9", NOW), "x.toml", NOW)


def case(**changes: str) -> str:
    wanted = {"who": "service/serve/alice", "action": "infer", "what": "endpoint/digits", "expect": "allow"} | changes
    lines = (f"{name} = {value if value[:1] in '[{' else json.dumps(value)}" for name, value in wanted.items() if value)
    return "[[cases]]\n" + "\n".join(lines) + "\n"


@pytest.mark.parametrize(
    "right",
    [
        {},
        {"because": '["may"]'},
        {"who": "service/serve/lost", "expect": "deny"},
        {"who": "service/serve/risky", "expect": "deny"},
        {"who": "service/serve/stranger", "expect": "deny"},
        {"action": "describe", "expect": "ask"},
        {"action": "describe", "expect": "ask", "because": '["by-day"]'},
        {"action": "describe", "context": "{ hour = 11 }"},
        {"action": "describe", "context": "{ hour = 12 }", "expect": "deny"},
        {"action": "chat", "expect": "deny"},
    ],
)
def test_what_is_stated_rightly_agrees(right):
    report = run(WORLD + case(**right))
    assert (report.agreed, report.total) == (1, 1), report.outcomes


@pytest.mark.parametrize(
    "wrong",
    [
        {"expect": "deny"},
        {"expect": "ask"},
        {"because": '["by-day"]'},
        {"because": '["may", "by-day"]'},
        {"obligations": '["step-up=900"]'},
        {"who": "service/serve/lost"},
        {"who": "service/serve/risky"},
        {"who": "service/serve/stranger"},
        {"action": "describe"},
        {"action": "describe", "context": "{ hour = 12 }"},
        {"action": "chat", "expect": "deny", "missing": '["scan"]'},
    ],
)
def test_what_is_stated_wrongly_differs(wrong):
    report = run(WORLD + case(**wrong))
    assert report.agreed == 0
    assert report.outcomes[0].told


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "policies = []",
        WORLD,
        WORLD + "cases = []",
        WORLD + CASE + 'nonsense = "x"\n',
        WORLD + case(expect="maybe"),
        WORLD + case(what="endpoint/nowhere"),
        WORLD + case(what="dataset/nowhere"),
        WORLD + case(what="tool/digits.none"),
        WORLD + case(what="nothing"),
        WORLD + case(who=""),
        WORLD + case(who="alice"),
        WORLD + case(action="INFER"),
        WORLD + case(because='["nobody-wrote-it"]'),
        WORLD + case(context='{ hour = "noon" }'),
        WORLD + case(context="{ risk = 0 }"),
        WORLD + case(context="{ nonsense = 1 }"),
        WORLD.replace('vouches = ["scan"]', 'vouches = ["scan@perfectly"]') + CASE,
        WORLD.replace("artifact/good", "artifact/other", 1) + CASE,
        WORLD.replace('revoked = ["service/serve/lost"]', 'revoked = ["endpoint/digits"]') + CASE,
        WORLD.replace("POST /v1/models/{name}/infer infer", "infer") + CASE,
        WORLD + '"artifact/x" = { lacking = { scan = "elsewhere" } }\n' + CASE,
    ],
)
def test_a_file_that_means_nothing_is_refused_with_a_remedy(text):
    with pytest.raises((InvalidInput, LimitExceeded)) as told:
        run(text)
    assert told.value.remedy


def test_a_revoked_artifact_holds_nothing():
    text = WORLD.replace('revoked = ["service/serve/lost"]', 'revoked = ["artifact/good"]')
    assert run(text + case(expect="deny", missing='["scan"]')).agreed == 1


def test_too_much_is_refused():
    with pytest.raises(LimitExceeded):
        read_vectors(WORLD + CASE * 10_001, "x.toml")
    with pytest.raises(LimitExceeded):
        read_vectors("#" * 5_000_000, "x.toml")


def test_the_command_s_exit_code_and_difference(tmp_path, capsys):
    (tmp_path / "mine.cedar").write_text(MINE)
    file = tmp_path / "a.vectors.toml"
    file.write_text(WORLD + CASE)
    assert main(["policy", "test", str(tmp_path)]) == 0
    assert "1 of 1 cases agree in process" in capsys.readouterr().out
    file.write_text(WORLD + CASE + case(who="service/serve/risky"))
    assert main(["policy", "test", str(file)]) == 1
    assert "deny where allow is stated" in capsys.readouterr().out
    assert main(["policy", "test", str(file), "--json"]) == 1
    assert json.loads(capsys.readouterr().out)[0]["agreed"] == 1
    (tmp_path / "mine.cedar").write_text("permit (")
    assert main(["policy", "test", str(file)]) != 0
    assert main(["policy", "test", str(tmp_path / "nowhere.toml")]) != 0
    (tmp_path / "empty").mkdir()
    assert main(["policy", "test", str(tmp_path / "empty")]) != 0


def test_a_candidate_policy_takes_the_place_of_the_file_s_own(tmp_path):
    (tmp_path / "mine.cedar").write_text(MINE)
    (tmp_path / "candidate.cedar").write_text(MINE.replace("< 60", "< 10"))
    (tmp_path / "a.vectors.toml").write_text(WORLD.replace("risk = 60", "risk = 20") + case(who="service/serve/risky"))
    assert main(["policy", "test", str(tmp_path)]) == 0
    assert main(["policy", "test", str(tmp_path), "--policies", str(tmp_path / "candidate.cedar")]) == 1


def test_every_pack_has_vectors():
    assert {f"{name}.vectors.toml" for name in packs() if name not in ("base", "digits")} <= set(FILES)


@pytest.mark.parametrize("name", FILES)
def test_a_pack_s_vectors_hold(name):
    vectors = read_vectors((PACKS / name).read_text(), name)
    sources = [(one.name, one.text) for one in (pack(text.removeprefix("pack:").replace("-", "_")) for text in vectors.policies)]
    report = in_process(vectors, imagine(vectors, sources, "tcp:127.0.0.1:9", NOW), name, NOW)
    assert report.agreed == report.total, [one for one in report.outcomes if one.status == "differs"]
    named = {policy for one in vectors.cases for policy in one.because}
    if name != "ai_lifecycle.vectors.toml":
        return
    silent = {"callers-may-be-acted-for"}
    missing = {one for one in _ids(sources[0][1]) if one not in named} - silent
    assert missing <= {"preparers-may-prepare", "guests-get-less", "callers-may-call-wrapped", "unusual-hour-steps-up"}, missing


@pytest.mark.parametrize("name", [one for one in packs() if one not in ("base", "digits")])
def test_nothing_is_wrong_or_odd_with_a_pack(name):
    assert check([pack(name)]) == []


def test_a_forbid_that_can_be_met_hides_nothing_and_one_that_cannot_does():
    text = '@id("may") permit (principal in Group::"a", action == Action::"infer", resource is Endpoint);'
    met = '@id("no") @oblige("step-up=900") forbid (principal, action == Action::"infer", resource);'
    assert [one.kind for one in check([Source("x.cedar", text + met)])] == []
    assert [one.kind for one in check([Source("x.cedar", text + met.replace('@oblige("step-up=900")', ""))])] == ["shadowed"]
    twice = met + met.replace('"no"', '"again"')
    assert [one.kind for one in check([Source("x.cedar", text + twice)])] == ["shadowed"]


@pytest.mark.parametrize("name", ["vllm", "mlflow", "airflow", "legacy"])
def test_the_settings_of_an_example_can_be_used(name, capsys):
    example = PACKS.parents[3] / "examples" / "packs" / name
    assert main(["config", "check", "--config", str(example / "vouchgate.toml")]) == 0
    text = (example / "README.md").read_text()
    assert f"policy test src/vouchgate/policy/packs/{name}.vectors.toml" in text


def _ids(text: str) -> list[str]:
    return [part.partition('"')[0] for part in text.split('@id("')[1:]]


@pytest.mark.gateway
@pytest.mark.parametrize("name", FILES)
def test_a_pack_s_vectors_hold_through_a_real_gateway(name):
    from vouchgate.edges.envoy.rehearsal import through_gateway

    vectors = read_vectors((PACKS / name).read_text(), name)
    sources = tuple((one.name, one.text) for one in (pack(text.removeprefix("pack:").replace("-", "_")) for text in vectors.policies))
    report = through_gateway(vectors, sources, name)
    assert report.agreed + report.not_requests == report.total, [one for one in report.outcomes if one.status == "differs"]
    assert report.agreed > 0
    assert all(one.told for one in report.outcomes if one.status == "not-a-request")


@pytest.mark.gateway
def test_the_gateway_s_verdict_is_its_own():
    """Grants and questions of another policy than the stated one are noticed."""
    from vouchgate.edges.envoy.rehearsal import through_gateway

    text = WORLD + case() + case(who="service/serve/lost", expect="deny") + case(action="describe", expect="ask") + case(expect="deny")
    report = through_gateway(read_vectors(text, "x.toml"), (("mine.cedar", MINE),), "x.toml")
    assert [one.status for one in report.outcomes] == ["agrees", "agrees", "agrees", "differs"]
    wide = MINE.replace("context has hour && context.hour < 12", "true")
    assert through_gateway(read_vectors(text, "x.toml"), (("mine.cedar", wide),), "x.toml").outcomes[2].status == "differs"


@pytest.mark.gateway
def test_a_gateway_that_does_not_start_is_told(monkeypatch):
    from vouchgate.edges.envoy import rehearsal

    monkeypatch.setattr(rehearsal, "envoy_binary", lambda: "/bin/false")
    with pytest.raises(VouchgateError, match="did not get ready"):
        rehearsal.through_gateway(read_vectors(WORLD + CASE, "x.toml"), (("mine.cedar", MINE),), "x.toml")


def test_the_page_s_files_and_commands_run(tmp_path):
    """Every file and every `sh` block of docs/policy.md, as they stand there."""
    import re
    import subprocess
    import sys

    page = (PACKS.parents[3] / "docs" / "policy.md").read_text()
    for name, text in re.findall(r"`(mine\.[a-z.]+)`:\n\n```[a-z]+\n(.*?)```", page, re.DOTALL):
        (tmp_path / name).write_text(text)
    assert {path.name for path in tmp_path.iterdir()} == {"mine.cedar", "mine.vectors.toml"}
    blocks = re.findall(r"```sh\n(.*?)```", page, re.DOTALL)
    assert len(blocks) >= 4
    path = f"{Path(sys.executable).parent}:/usr/bin:/bin"
    for block in blocks:
        done = subprocess.run(
            ["sh", "-ec", block], check=False, cwd=tmp_path, env={"PATH": path}, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, (block, done.stdout, done.stderr)
