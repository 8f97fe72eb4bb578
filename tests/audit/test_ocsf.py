"""Every entry validates against OCSF 1.8.0, whatever text arrives, and says what it is."""

from __future__ import annotations

import functools
import json
from typing import Any

import jsonschema_rs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ocsf_json_schema import OcsfJsonSchemaEmbedded, get_ocsf_schema

from vouchgate.audit import ocsf
from vouchgate.audit.tiles import MAX_ENTRY_BYTES
from vouchgate.vocabulary import wire
from vouchgate.vocabulary.decisions import Decision, Missing, Risk
from vouchgate.vocabulary.digests import Digest
from vouchgate.vocabulary.errors import InvalidInput
from vouchgate.vocabulary.events import Event, Finding
from vouchgate.vocabulary.vouches import Method, Revocation, Subject, Vouch

TD = "test.local"
NOW = 1_790_000_000_000
CALLER = "spiffe://test.local/service/prod/client"
ENDPOINT = "vg://test.local/endpoint/digits"


@functools.cache
def schema() -> OcsfJsonSchemaEmbedded:
    return OcsfJsonSchemaEmbedded(get_ocsf_schema("1.8.0"))


@functools.cache
def validator(class_uid: int, profiles: tuple[str, ...]) -> Any:
    name = schema().lookup_class_name_from_uid(class_uid)
    return jsonschema_rs.validator_for(schema().get_class_schema(name, list(profiles)))


def valid(entry: bytes) -> dict[str, Any]:
    event = json.loads(entry)
    assert wire.encode(event) == entry, "an entry is its own deterministic encoding"
    assert len(entry) <= MAX_ENTRY_BYTES
    errors = [
        f"{error.instance_path}: {error.message}"
        for error in validator(event["class_uid"], tuple(event["metadata"].get("profiles", ()))).iter_errors(event)
    ]
    assert not errors
    assert event["type_uid"] == event["class_uid"] * 100 + event["activity_id"]
    assert event["category_uid"] == event["class_uid"] // 1000
    assert event["metadata"]["tenant_uid"]
    ocsf.summary(entry)
    return event


def decision(**changes: Any) -> Decision:
    return Decision(
        **{
            "id": "d1",
            "trust_domain": TD,
            "effect": "deny",
            "would_be": "deny",
            "principal": CALLER,
            "action": "infer",
            "resource": ENDPOINT,
            "policy_digest": "sha256:" + "0" * 64,
            "policy_version": 3,
            "evidence_epoch": 9,
            "risk": Risk(value=20, reasons=("new peer",)),
            "missing": (Missing(predicate="scan", subject=ENDPOINT, why="expired", remedy="scan it again"),),
            "reason": "the model's scan is expired",
            "remedy": "scan it again",
            "not_after": NOW,
            "evaluated_at": NOW,
            **changes,
        }
    )


def event(**changes: Any) -> Event:
    return Event(
        **{
            "source": "gateway",
            "source_epoch": 1,
            "source_seq": 5,
            "occurred_at": NOW,
            "observed_at": NOW + 20,
            "principal": CALLER,
            "action": "infer",
            "resource": ENDPOINT,
            "outcome": "allowed",
            "request_id": "r-1",
            "duration_ms": 5.4,
            "peer": "127.0.0.1:5000",
            "detail": {"status": 200, "method": "POST", "path": "/v2/models/digits/infer", "model_digest": "sha256:" + "1" * 64},
            **changes,
        }
    )


def vouch(**changes: Any) -> Vouch:
    subject = Subject(name="vg://test.local/artifact/sha256:" + "2" * 64, digest=Digest(value="2" * 64))
    return Vouch(
        **{
            "id": "3" * 64,
            "trust_domain": TD,
            "predicate_type": "scan",
            "predicate_version": 1,
            "subjects": (subject,),
            "outcome": "pass",
            "issuer_key": "4" * 64,
            "issuer_role": "scanner",
            "issued_at": NOW,
            "not_before": NOW,
            "expires_at": NOW + 1,
            "method": Method(tool="structure", version="1"),
            "claims": {"format": "safetensors", "tensors": 3},
            **changes,
        }
    )


def revocation(**changes: Any) -> Revocation:
    return Revocation(
        **{
            "id": "r1",
            "trust_domain": TD,
            "target_kind": "digest",
            "target": "sha256:" + "2" * 64,
            "reason": "poisoned",
            "requested_by": CALLER,
            "made_at": NOW,
            **changes,
        }
    )


def found(**changes: Any) -> Finding:
    return Finding(
        **{
            "id": "f1",
            "kind": "extraction",
            "subject": CALLER,
            "detector": "pairs",
            "detector_version": "1",
            "unit": "principal-day",
            "severity": "high",
            "authenticated_basis": True,
            "technique": "AML.T0024",
            "clears_when": "a day passes without it",
            "expires_at": NOW,
            **changes,
        }
    )


ENTRIES = {
    "decision": lambda: ocsf.decision(decision()),
    "vouch": lambda: ocsf.vouch(vouch(), now=NOW),
    "revocation": lambda: ocsf.revocation(revocation(), now=NOW),
    "push": lambda: ocsf.push(TD, pep="gateway", epoch=9, resource="map/digits", outcome="acknowledged", detail={"entries": 4}, now=NOW),
    "lease-lost": lambda: ocsf.lease_lost(TD, pep="gateway", epoch=9, since=NOW - 10_000, reason="no heartbeat", now=NOW),
    "act": lambda: ocsf.act(TD, uid="a1", who=CALLER, verb="register", resource=ENDPOINT, outcome="done", detail={"n": 1}, now=NOW),
    "request-start": lambda: ocsf.request(TD, event(phase="start")),
    "request-end": lambda: ocsf.request(TD, event()),
    "gap": lambda: ocsf.gap(TD, source="gateway", missing=7, since=NOW - 100, until=NOW, now=NOW),
    "authentication": lambda: ocsf.authentication(
        TD,
        uid="u1",
        principal=CALLER,
        credential_kind="jwt",
        credential_id="j",
        service="pdp",
        ok=False,
        reason="expired",
        peer="",
        now=NOW,
    ),
    "finding": lambda: ocsf.finding(TD, found(), now=NOW),
}


def test_every_kind_has_a_builder() -> None:
    assert set(ENTRIES) == set(ocsf.KINDS)


@pytest.mark.parametrize("kind", ENTRIES)
def test_entries_validate_and_name_their_kind(kind: str) -> None:
    entry = ENTRIES[kind]()
    made = valid(entry)
    assert made["metadata"]["event_code"] == ocsf.summary(entry).kind == kind
    assert ENTRIES[kind]() == entry
    assert ocsf.summary(entry).message


@pytest.mark.parametrize("kind", ENTRIES)
def test_the_validator_refuses_a_changed_entry(kind: str) -> None:
    made = json.loads(ENTRIES[kind]())
    check = validator(made["class_uid"], tuple(made["metadata"].get("profiles", ())))
    assert not check.is_valid({**made, "surprise": 1})
    assert not check.is_valid({name: value for name, value in made.items() if name != "metadata"})


@pytest.mark.parametrize(
    ("effect", "would_be", "action", "disposition"), [("allow", "allow", 1, 1), ("deny", "deny", 2, 2), ("allow", "deny", 3, 17)]
)
def test_allowed_denied_and_observed_are_told_apart(effect: str, would_be: str, action: int, disposition: int) -> None:
    made = valid(ocsf.decision(decision(effect=effect, would_be=would_be, mode="observe")))
    assert (made["action_id"], made["disposition_id"]) == (action, disposition)


def test_a_decision_can_be_read_back_whole() -> None:
    made = decision()
    assert wire.from_plain(Decision, ocsf.detail_of(ocsf.decision(made))) == made


def test_a_vouch_revocation_and_event_can_be_read_back_whole() -> None:
    assert wire.from_plain(Vouch, ocsf.detail_of(ocsf.vouch(vouch(), now=NOW))) == vouch()
    assert wire.from_plain(Revocation, ocsf.detail_of(ocsf.revocation(revocation(), now=NOW))) == revocation()
    assert wire.from_plain(Event, ocsf.detail_of(ocsf.request(TD, event()))) == event()


@pytest.mark.parametrize(
    "peer", ["", "127.0.0.1:1", "[::1]:443", "uid:1000", "10.0.0.1:99999", "300.1.1.1:5", "a:b:c", "\u202e", "127.0.0.1", "1.2.3.4:-1"]
)
def test_any_peer_gives_a_valid_endpoint(peer: str) -> None:
    valid(ocsf.request(TD, event(peer=peer)))


@settings(max_examples=150, deadline=None)
@given(
    texts=st.lists(st.text(st.characters(), max_size=60), min_size=6, max_size=6),
    number=st.one_of(st.integers(), st.floats()),
)
def test_any_text_from_outside_gives_a_valid_entry(texts: list[str], number: float) -> None:
    path, method, principal, resource, outcome, peer = texts
    detail = {"path": path, "method": method, "status": number, "deep": [{"x": [path, number]}], method: path, "model_digest": outcome}
    duration = float(number) if abs(number) < 2**200 else 2e300
    valid(
        ocsf.request(
            TD,
            event(
                principal=principal,
                resource=resource,
                outcome=outcome,
                peer=peer,
                detail=detail,
                duration_ms=number if isinstance(number, float) else duration,
            ),
        )
    )


@pytest.mark.parametrize("text", ["\ud800", "a\udfff", "\x00\x1b[31m", "\u2028", "'\"\\"])
def test_text_that_json_cannot_carry_is_replaced_not_refused(text: str) -> None:
    valid(ocsf.request(TD, event(resource=text, detail={text: text, "path": text, "method": text})))


@pytest.mark.parametrize("duration", [float("inf"), float("nan"), -1.0, 1e300, 0.0, 0.4])
def test_any_duration_gives_a_valid_entry(duration: float) -> None:
    assert valid(ocsf.request(TD, event(duration_ms=duration)))["duration"] >= 0


@pytest.mark.parametrize("size", [70_000, 1_000_000])
def test_an_oversize_event_is_shortened_and_says_so(size: int) -> None:
    made = valid(ocsf.request(TD, event(detail={"path": "/" + "x" * size, "method": "POST", "many": ["y" * 1000] * 200})))
    assert made["metadata"]["is_truncated"] is True
    assert made["metadata"]["untruncated_size"] > size
    assert len(made["unmapped"]["left_out"]["sha256"]) == 64
    many = tuple(Missing(predicate="p" * 200, subject="s" * 200, why="absent", remedy="r" * 200) for _ in range(500))
    valid(
        ocsf.decision(
            decision(missing=many, errors=("e" * 5000,) * 50, determining=("policy" * 50,) * 400, vouches_used=("v" * 64,) * 2000)
        )
    )
    valid(ocsf.request(TD, event(detail={f"{at}" + "k" * 900: "z" * 900 for at in range(300)}, principal="q" * size, action="w" * size)))


@pytest.mark.parametrize(
    "junk", [b"", b"{}", b"[]", b'{"metadata":{"event_code":"nonsense"},"time":1}', b'{"metadata":7,"time":1}', b"\xff"]
)
def test_a_foreign_entry_is_not_summarised(junk: bytes) -> None:
    with pytest.raises(InvalidInput):
        ocsf.summary(junk)


def test_different_severities_and_states_of_findings() -> None:
    for severity, number in [("low", 2), ("medium", 3), ("high", 4), ("critical", 5)]:
        assert valid(ocsf.finding(TD, found(severity=severity, technique=""), now=NOW))["severity_id"] == number
    assert valid(ocsf.finding(TD, found(status="closed"), now=NOW))["activity_id"] != 1
