"""An endpoint through which a dataset is read: the dataset is what is asked for, under its own zones, labels and vouches."""

from __future__ import annotations

import pytest
from flows_world import ALICE, DAY, FINGERPRINT, NOW, SIGNED_ROOT, TD, about, endpoint, registration, revoked, vouched, zone

from vouchgate.edges.envoy.maps import _keyed
from vouchgate.flows.changes import AssetPut, AssetRemoved, EndpointPut, RegistrationPut, Revoked, TrustRootAdopted, ZonePut
from vouchgate.flows.facts import Facts
from vouchgate.flows.sequence import Sequenced
from vouchgate.policy.catalog import schema_text
from vouchgate.policy.compile import compile_policies
from vouchgate.policy.load import Source, read
from vouchgate.vocabulary.decisions import Decision, Grant
from vouchgate.vocabulary.digests import file_digest
from vouchgate.vocabulary.names import resource
from vouchgate.vocabulary.places import Asset, Route, asks, resource_of
from vouchgate.vocabulary.vouches import Revocation, UnixMillis

SET = resource(TD, "dataset", "chest-xrays")
FILES = endpoint("files", asset=SET, routes=(Route(method="GET", path="/{name}", action="read"),))
POLICY = """@id("read-open-data") permit (principal in Group::"callers", action == Action::"read", resource is Dataset in Zone::"prepare")
when { !resource.labels.contains("personal") };"""


@pytest.fixture
def facts() -> Facts:
    made = Facts(TD, "")
    made.policies = compile_policies(read([Source("test.cedar", POLICY)], schema_text()))
    for number, change in enumerate(
        (
            ZonePut(zone=zone("serve")),
            ZonePut(zone=zone("prepare")),
            EndpointPut(endpoint=FILES),
            RegistrationPut(registration=registration()),
            AssetPut(asset=Asset(id=SET, zones=("prepare",), digest=file_digest(b"images").text)),
        )
    ):
        made.apply(Sequenced(change=change, epoch=number + 1, log_index=number), NOW)
    return made


def put(facts: Facts, change: object) -> None:
    facts.apply(Sequenced(change=change, epoch=facts.epoch + 1, log_index=facts.epoch), NOW)  # type: ignore[arg-type]


def said(facts: Facts) -> list[Decision]:
    return facts.standing((FILES.id, ALICE), NOW)


def test_the_asset_is_what_is_asked_for(facts: Facts) -> None:
    assert resource_of(FILES) == SET
    assert asks(FILES) == [("read", SET)]
    assert [(one.resource, one.effect) for one in said(facts)] == [(SET, "allow")]


def test_a_grant_on_the_asset_is_found_by_the_gateway_under_its_endpoint(facts: Facts) -> None:
    grant = Grant(
        id="g", decision_id="d", principal=ALICE, credential_kind="x509", action="read", resource=SET, pep="gateway", epoch=1,
        not_after=UnixMillis(NOW + 1000),
    )  # fmt: skip
    assert list(_keyed(FILES, [grant], {})) == [f"{FILES.id}|read|-|{ALICE}|-|-|-|-|-|-"]
    other = resource(TD, "dataset", "another")
    assert not _keyed(endpoint("files", asset=other, routes=FILES.routes), [grant], {})
    assert not _keyed(endpoint("files", routes=FILES.routes), [grant], {})


@pytest.mark.parametrize(
    "changes", [{"zones": ("ingest",)}, {"zones": ()}, {"labels": ("personal",)}], ids=["moved away", "placed nowhere", "labelled"]
)
def test_what_becomes_of_the_asset_counts_at_once(facts: Facts, changes: dict[str, tuple[str, ...]]) -> None:
    change = AssetPut(asset=Asset(id=SET, **({"zones": ("prepare",)} | changes)))  # type: ignore[arg-type]
    put(facts, change)
    assert [one.effect for one in said(facts)] == ["deny"]
    assert (FILES.id, ALICE) in facts.cells(facts.touched(change))


def test_an_asset_that_was_removed_lies_nowhere(facts: Facts) -> None:
    put(facts, AssetRemoved(id=SET))
    assert [one.effect for one in said(facts)] == ["deny"]


def test_a_revoked_content_touches_whoever_reads_it_by_name(facts: Facts) -> None:
    digest = facts.assets[SET].digest
    revocation = Revocation(
        id="r", trust_domain=facts.trust_domain, target_kind="digest", target=digest, reason="poisoned", requested_by=ALICE, made_at=NOW
    )  # type: ignore[arg-type]
    assert (FILES.id, ALICE) in facts.cells(facts.touched(Revoked(revocation=revocation)))


@pytest.mark.parametrize("by", ["digest", "failed scan"])
def test_observe_never_lets_an_asset_pass_whose_content_was_withdrawn(by: str) -> None:
    made = Facts(TD, FINGERPRINT)
    content = file_digest(b"images")
    changes: list[object] = [
        TrustRootAdopted(signed=SIGNED_ROOT),
        ZonePut(zone=zone("serve", mode="observe", observe_until=NOW + DAY)),
        ZonePut(zone=zone("prepare")),
        AssetPut(asset=Asset(id=SET, zones=("prepare",), digest=content.text)),
        EndpointPut(endpoint=FILES),
        vouched("scan", [about(content)]),
    ]
    for change in changes:
        put(made, change)
    assert not made.has_refused_evidence(FILES.id, NOW)
    change = revoked("digest", content.text) if by == "digest" else vouched("scan", [about(content)], outcome="fail", issued_at=NOW + 1)
    put(made, change)
    assert made.has_refused_evidence(FILES.id, NOW)
    assert FILES.id in made.endpoints_of(made.touched(change))  # type: ignore[arg-type]
