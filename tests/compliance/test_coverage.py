"""Frameworks are read strictly, and controls held against entries that the audit room really writes."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vouchgate.audit import ocsf
from vouchgate.compliance.catalog import MAX_FRAMEWORK_BYTES, framework, parse
from vouchgate.compliance.coverage import MAX_REFERENCES, coverage
from vouchgate.compliance.frameworks_schema import NOUNS, PLAIN, Control, Framework, Need
from vouchgate.vocabulary.answers import AuditEntry
from vouchgate.vocabulary.decisions import Decision
from vouchgate.vocabulary.errors import InvalidInput, NotFound
from vouchgate.vocabulary.events import Event, Finding
from vouchgate.vocabulary.vouches import Method, Revocation, Subject, Vouch

NOW = 1_900_000_000_000
TD = "test.local"
DAY_MS = 86_400_000


def entry(index: int, data: bytes) -> AuditEntry:
    said = ocsf.summary(data)
    return AuditEntry(index=index, at=said.time, kind=said.kind, summary=said.message, body=ocsf.plain_of(data))


def decision(**changes) -> bytes:
    base = Decision(
        id="d", trust_domain=TD, effect="allow", would_be="allow", principal="spiffe://test.local/service/prod/shop", action="infer",
        resource="vg://test.local/endpoint/x", policy_digest="p", policy_version=1, evidence_epoch=1, not_after=NOW + 1000, evaluated_at=NOW,
    )  # fmt: skip
    return ocsf.decision(msgspec.structs.replace(base, **changes))


def request(at: int = NOW, **changes) -> bytes:
    base = Event(
        source="gateway", source_epoch=1, source_seq=1, occurred_at=at, observed_at=at, principal="spiffe://test.local/service/prod/shop",
        authenticated=True, action="infer", enforced_by="gateway", outcome="allowed",
    )  # fmt: skip
    return ocsf.request(TD, msgspec.structs.replace(base, **changes))


def vouch(predicate: str, **changes) -> bytes:
    base = Vouch(
        id="v", trust_domain=TD, predicate_type=predicate, predicate_version=1, subjects=(Subject(name="vg://test.local/endpoint/x"),),
        outcome="pass", issuer_key="k", issuer_role="scanner", issued_at=NOW, not_before=NOW, expires_at=NOW + 1, tier="verified",
        method=Method(tool="t", version="1"),
    )  # fmt: skip
    return ocsf.vouch(msgspec.structs.replace(base, **changes), now=NOW)


def finding() -> bytes:
    made = Finding(
        id="f", kind="k", subject="s", detector="d", detector_version="1", unit="u", severity="low", authenticated_basis=True,
        clears_when="c", expires_at=NOW,
    )  # fmt: skip
    return ocsf.finding(TD, made, now=NOW)


def authentication() -> bytes:
    return ocsf.authentication(
        TD, uid="u", principal="p", credential_kind="x509", credential_id="c", service="s", ok=True, reason="", peer="", now=NOW
    )


def push(outcome: str = "acknowledged") -> bytes:
    return ocsf.push(TD, pep="gateway", epoch=1, resource="map", outcome=outcome, detail={"entries": 2}, now=NOW)


WHOLE = [
    decision(), decision(effect="deny", would_be="deny"), vouch("import"), vouch("scan"), vouch("serves"), push(), finding(), authentication(),
    *[request() for _ in range(10)],
]  # fmt: skip


def statuses(entries: list[bytes], now: int = NOW) -> dict[str, str]:
    found = coverage(framework("nist-800-207"), [entry(index, data) for index, data in enumerate(entries)], now)
    return {one.control: one.status for one in found}


def test_with_everything_recorded_every_tenet_is_met_and_names_entries():
    found = coverage(framework("nist-800-207"), [entry(index, data) for index, data in enumerate(WHOLE)], NOW)
    assert [one.status for one in found] == ["met"] * 7
    assert all(need.references and len(need.references) <= MAX_REFERENCES for one in found for need in one.needs)
    recorded = next(need for need in found[6].needs if need.wanted == 10)
    assert recorded.count == 10 and recorded.references == (17, 16, 15, 14, 13)


def test_with_nothing_recorded_nothing_is_met():
    assert set(statuses([]).values()) == {"unmet"}


@pytest.mark.parametrize(
    ("less", "control"),
    [
        ("decision", "2.1-6"), ("finding", "2.1-4"), ("authentication", "2.1-6"), ("push", "2.1-3"), ("vouch", "2.1-1"), ("vouch", "2.1-4"),
        ("request-end", "2.1-7"),
    ],
)  # fmt: skip
def test_without_a_kind_of_evidence_a_tenet_is_not_met(less, control):
    assert statuses([data for data in WHOLE if ocsf.summary(data).kind != less])[control] != "met"


@pytest.mark.parametrize(
    ("more", "control"),
    [
        (request(authenticated=False), "2.1-2"),
        (vouch("serves", tier="declared"), "2.1-5"),
        (decision(effect="allow", would_be="deny", mode="observe"), "2.1-6"),
        (ocsf.gap(TD, source="gateway", missing=3, since=NOW - 5, until=NOW, now=NOW), "2.1-7"),
    ],
)
def test_a_contradiction_takes_a_tenet_back_and_is_named(more, control):
    found = coverage(framework("nist-800-207"), [entry(index, data) for index, data in enumerate([*WHOLE, more])], NOW)
    (one,) = [one for one in found if one.control == control]
    assert one.status == "partly" and [at.references for at in one.contradictions] == [(len(WHOLE),)]
    assert [other.control for other in found if other.status != "met"] == [control]


def test_a_refused_push_and_a_failed_scan_show_nothing():
    assert statuses([push("rejected"), push("sent")])["2.1-3"] == "unmet"
    assert statuses([vouch("scan", outcome="fail")])["2.1-5"] == "unmet"


@pytest.mark.parametrize(
    ("age", "status"),
    [(90 * DAY_MS - 1, "met"), (90 * DAY_MS, "unmet"), (0, "met"), (-5_000, "met"), (-5_001, "unmet"), (-DAY_MS, "unmet")],
)
def test_evidence_counts_for_ninety_days(age, status):
    assert statuses([decision(), push()], NOW + age)["2.1-3"] == status


def test_old_and_future_entries_show_nothing():
    assert set(statuses(WHOLE, NOW + 91 * DAY_MS).values()) == {"unmet"}
    assert set(statuses(WHOLE, NOW - DAY_MS).values()) == {"unmet"}


@pytest.mark.parametrize("body", [{}, {"unmapped": None}, {"unmapped": {}}, {"unmapped": {"vouchgate": None}}, {"unmapped": {"vouchgate": {"effect": "allow"}}},
                                  {"unmapped": {"vouchgate": {"outcome": "acknowledged"}, "left_out": {}}}])  # fmt: skip
@pytest.mark.parametrize("kind", [*NOUNS, *PLAIN, "checkpoint"])
def test_an_entry_that_does_not_hold_all_of_it_shows_nothing(kind, body):
    broken = AuditEntry(index=0, at=NOW, kind=kind, summary="", body=body)
    met = [one for one in coverage(framework("nist-800-207"), [broken], NOW) if one.status != "unmet"]
    assert met == []


def test_a_shortened_entry_shows_nothing():
    long = decision(missing=(), reason="x" * 70_000)
    assert "left_out" in ocsf.plain_of(long)["unmapped"]
    assert set(statuses([long]).values()) == {"unmet"}


def test_a_number_is_not_a_yes():
    asked = Framework(
        name="x", title="x", source="https://example.org/", edition="1",
        controls=(Control(id="1", title="t", text="t", limits="l", needs=(Need(what="w", kind="authentication", where={"ok": True}),)),),
    )  # fmt: skip
    body = {"unmapped": {"vouchgate": {"ok": 1}}}
    (one,) = coverage(asked, [AuditEntry(index=0, at=NOW, kind="authentication", summary="", body=body)], NOW)
    assert one.status == "unmet"


@given(st.sets(st.integers(0, len(WHOLE) - 1)))
def test_more_of_the_same_evidence_never_shows_less(kept):
    order = {"unmet": 0, "partly": 1, "met": 2}
    some, all_of_it = statuses([WHOLE[number] for number in sorted(kept)]), statuses(WHOLE)
    assert all(order[some[control]] <= order[all_of_it[control]] for control in some)


def test_the_kinds_asked_for_are_those_that_the_log_has():
    assert set(NOUNS) | set(PLAIN) == set(ocsf.KINDS)
    detail = {kind: set(ocsf.detail_of(data)) for kind, data in [
        ("push", push()), ("authentication", authentication()),
        ("lease-lost", ocsf.lease_lost(TD, pep="g", epoch=1, since=NOW, reason="r", now=NOW)),
        ("act", ocsf.act(TD, uid="u", who="w", verb="v", resource="r", outcome="done", detail={}, now=NOW)),
        ("gap", ocsf.gap(TD, source="s", missing=1, since=NOW, until=NOW, now=NOW)),
    ]}  # fmt: skip
    assert {kind: set(PLAIN[kind]) <= said for kind, said in detail.items()} == dict.fromkeys(PLAIN, True)
    revoked = Revocation(id="r", trust_domain=TD, target_kind="digest", target="t", reason="x", requested_by="y", made_at=NOW)
    assert entry(0, ocsf.revocation(revoked, now=NOW)).kind in NOUNS


GOOD = """
name = "x"
title = "x"
source = "https://example.org/x"
edition = "1"
[[controls]]
id = "1"
title = "t"
text = "t"
limits = "l"
[[controls.needs]]
what = "w"
kind = "push"
where = { outcome = ["sent", "acknowledged"] }
"""


def test_a_good_file_is_read():
    assert parse(GOOD.encode(), "x.toml").controls[0].needs[0].where == {"outcome": ("sent", "acknowledged")}


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('edition = "1"', ""), ('edition = "1"', 'edition = "1"\nauthor = "x"'), ('limits = "l"', ""), ('kind = "push"', 'kind = "psuh"'),
        ("outcome =", "outcom ="), ('["sent", "acknowledged"]', "[]"), ('["sent", "acknowledged"]', "1.5"), ('what = "w"', 'what = ""'),
        ('kind = "push"', 'kind = "push"\nat_least = 0'), ('kind = "push"', 'kind = "push"\nat_most = 1'), ("[[controls]]", "[[control]]"),
        ('name = "x"', 'name = "X y"'), ("https://", "http://"), ('id = "1"', 'id = "1'), ('title = "t"', 'title = "t"\nneeds = []'),
        ("[[controls.needs]]", "[[controls.wants]]"), ('what = "w"', 'what = "w"\nwithin_days = 1_000_000'),
    ],
)  # fmt: skip
def test_a_file_with_one_mistake_is_refused(old, new):
    assert old in GOOD
    with pytest.raises(InvalidInput) as caught:
        parse(GOOD.replace(old, new, 1).encode(), "x.toml")
    assert caught.value.remedy


def test_a_control_given_twice_too_many_bytes_and_no_text_are_refused():
    with pytest.raises(InvalidInput, match="twice"):
        parse((GOOD + GOOD[GOOD.index("[[controls]]") :]).encode(), "x.toml")
    with pytest.raises(InvalidInput):
        parse(b" " * (MAX_FRAMEWORK_BYTES + 1), "x.toml")
    with pytest.raises(InvalidInput):
        parse(b"\xff", "x.toml")


@given(st.binary(max_size=300))
def test_any_bytes_are_refused_or_read(data):
    try:
        parse(data, "x.toml")
    except InvalidInput:
        pass
    else:
        pytest.fail("no framework is that short")


def test_the_catalog_refuses_unknown_names():
    with pytest.raises(NotFound):
        framework("iso-9001")
