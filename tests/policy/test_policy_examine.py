"""Misconfigurations, each put into policies that have none, and found; and the packs, in which nothing is."""

from __future__ import annotations

import time

import pytest

from vouchgate.flows.check_policy import check_files
from vouchgate.policy import catalog
from vouchgate.policy.compile import compile_policies
from vouchgate.policy.examine import Against, examine
from vouchgate.policy.jobs import Checked, CheckJob, Job, ProofJob, Proved, compiled_texts, do, texts_of
from vouchgate.policy.lints import slip
from vouchgate.policy.load import Source
from vouchgate.vocabulary.answers_policy import CheckReport, PolicyText, Proof

INFER = """@id("callers-may-infer")
permit (principal in Group::"callers", action in [Action::"infer", Action::"chat"], resource is Endpoint in Zone::"serve")
when {
  resource has model && resource.model.vouches.containsAll(["scan", "structure"]) &&
  resource.vouches.contains("serves@rederived") && context.risk < 60
};
"""
EXPORT = """@id("exporters-may-export")
permit (principal in Group::"exporters", action == Action::"export", resource is Dataset in Zone::"prepare")
when { resource.vouches.contains("approval@verified") && context.risk < 40 };
"""
NIGHT = """@id("night")
permit (principal in Group::"batch", action == Action::"embed", resource is Endpoint in Zone::"serve")
when { resource.vouches.contains("serves@verified") && context.risk < 40 && context has hour && (context.hour >= 22 || context.hour < 6) };
"""
STAYS = """@id("personal-stays")
forbid (principal, action == Action::"export", resource)
when { resource.labels.contains("personal") };
"""
CEILING = """@id("ceiling")
forbid (principal, action in [Action::"use", Action::"move"], resource)
when { context.risk >= 80 };
"""
GOOD = f"{INFER}{EXPORT}{NIGHT}{STAYS}{CEILING}"


class Here:
    """The prover, in this process."""

    def prove(self, job: ProofJob) -> Proof:
        done = self._do(job)
        assert isinstance(done, Proved)
        return done.proof

    def check(self, job: CheckJob) -> Checked:
        done = self._do(job)
        assert isinstance(done, Checked)
        return done

    def _do(self, job: Job) -> object:
        return do(job, time.monotonic)


def report(text: str, *, against: str = "", seconds: float = 60.0) -> CheckReport:
    old = (PolicyText(name="old.cedar", text=against),) if against else ()
    return check_files((PolicyText(name="mine.cedar", text=text),), Here(), against=old, seconds=seconds)


def found(text: str, **more: str) -> set[tuple[str, str]]:
    return {(one.kind, one.policy) for one in report(text, **more).findings}


def test_of_a_provider_outside_no_vouch_is_asked_but_a_label_is() -> None:
    text = (
        '@id("ask") permit (principal in Group::"callers", action == Action::"chat", resource is Endpoint) when {{ {} context.risk < 40 }};'
    )
    assert found(text.format("resource.outside && resource.labels.contains(principal.zone) &&")) == set()
    assert found(text.format("resource.outside &&")) == {("outside-unlabelled", "ask")}
    assert found(text.format("resource.labels.contains(principal.zone) &&")) == {("asks-for-no-vouch", "ask")}


def test_a_vouch_that_is_written_once_and_almost_like_another_is_a_slip() -> None:
    text = '@id("in-{0}") permit (principal in Group::"importers", action == Action::"admit", resource is Artifact) '
    text += 'when {{ resource.vouches.containsAll(["scan", "{1}"]) && context.risk < 60 }};'
    two = text.format("a", "structure") + text.format("b", "structure").replace("importers", "others")
    assert ("near-name", "in-c") in found(two + text.format("c", "structrue").replace("importers", "thirds"))
    assert not {kind for kind, _ in found(two + text.format("c", "sbom").replace("importers", "thirds"))} & {"near-name"}


def test_nothing_is_wrong_with_what_is_good() -> None:
    answer = report(GOOD)
    assert (answer.ok, answer.findings, answer.unproved) == (True, (), ())


@pytest.mark.parametrize(
    ("kind", "policy", "old", "new"),
    [
        ("asks-for-nothing", "exporters-may-export", 'when { resource.vouches.contains("approval@verified") && context.risk < 40 }', ""),
        ("asks-for-no-vouch", "exporters-may-export", 'resource.vouches.contains("approval@verified") && ', ""),
        ("asks-for-no-vouch", "exporters-may-export", 'resource.vouches.contains("approval@verified") &&', '(resource.vouches.contains("sbom") || true) &&'),
        ("no-risk-bound", "exporters-may-export", "context.risk < 40", "context.risk < 101"),
        ("no-risk-bound", "exporters-may-export", " && context.risk < 40", ""),
        ("unsafe-risk", "exporters-may-export", "context.risk < 40", "context.risk > 40"),
        ("unsafe-risk", "exporters-may-export", "when { resource.vouches", "unless { resource.vouches"),
        ("loosens-when-facts-vanish", "callers-may-infer", "when {", "unless {"),
        ("any-caller", "callers-may-infer", 'principal in Group::"callers"', "principal"),
        ("any-caller", "callers-may-infer", 'principal in Group::"callers"', "principal is Principal"),
        ("any-action", "exporters-may-export", 'action == Action::"export"', "action"),
        ("odd-zone", "callers-may-infer", 'Zone::"serve"', 'Zone::"train"'),
        ("near-name", "callers-may-infer", 'Zone::"serve"', 'Zone::"servee"'),
        ("weak-tier", "callers-may-infer", "serves@rederived", "serves@declared"),
        ("weak-tier", "callers-may-infer", "serves@rederived", "serves"),
        ("any-vouch", "callers-may-infer", "containsAll", "containsAny"),
        ("never-matches", "night", "|| context.hour", "&& context.hour"),
        ("never-matches", "exporters-may-export", "context.risk < 40", 'context.risk < 40 && principal.kind == "human"'),
        ("never-matches", "night", 'Group::"batch", action == Action::"embed", resource is Endpoint in Zone::"serve"',
         'Group::"batch", action == Action::"embed", resource == Endpoint::"digits"'),
        ("outside-unlabelled", "callers-may-infer",
         'resource has model && resource.model.vouches.containsAll(["scan", "structure"]) &&\n  resource.vouches.contains("serves@rederived")',
         "resource.outside"),
        ("loosens-when-facts-vanish", "personal-stays", 'when { resource.labels.contains("personal") }', "when { resource has model }"),
        ("invalid", "callers-may-infer", "resource has model &&", ""),
        ("unnamed", "", '@id("night")', ""),
    ],
)  # fmt: skip
def test_a_policy_that_is_changed_is_found(kind: str, policy: str, old: str, new: str) -> None:
    assert old in GOOD
    block = next(one for one in (INFER, EXPORT, NIGHT, STAYS) if old in one)
    changed = GOOD.replace(block, block.replace(old, new, 1))
    assert (kind, policy) in found(changed)


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("shadowed", 'permit (principal in Group::"callers", action == Action::"chat", resource is Endpoint in Zone::"serve") when { resource has model && '
                     'resource.model.vouches.containsAll(["structure", "scan", "sbom"]) && resource.vouches.contains("serves@verified") && context.risk < 9 };'),
        ("shadowed", 'permit (principal in Group::"exporters", action == Action::"export", resource is Dataset) when { resource.labels == ["personal"] && '
                     'resource.vouches.contains("scan") && context.risk < 9 };'),
        ("shadowed", 'forbid (principal, action == Action::"export", resource) when { resource.labels.containsAll(["personal", "secret"]) };'),
        ("administers", 'permit (principal in Group::"ops", action == Action::"administer:revoke", resource);'),
        ("administers", 'permit (principal in Group::"callers", action == Action::"approve", resource);'),
        ("unknown-role", 'forbid (principal in Group::"role:responders", action == Action::"infer", resource is Endpoint);'),
        ("asks-for-nothing", 'permit (principal in Group::"keys", action == Action::"release-key", resource is Key);'),
        ("no-risk-bound", 'permit (principal in Group::"agents", action == Action::"call-tool", resource is Tool);'),
        ("unscoped", "permit (principal, action, resource) when { context.risk < 10 };"),
        ("any-resource", 'permit (principal in Group::"x", action == Action::"read", resource) when { context.risk < 10 };'),
    ],
)  # fmt: skip
def test_a_policy_that_is_added_is_found(kind: str, text: str) -> None:
    assert (kind, "added") in found(f'{GOOD}\n@id("added") {text}')


@pytest.mark.parametrize(
    ("kind", "policy", "old", "new"),
    [
        ("removes-forbid", "personal-stays", STAYS, ""),
        ("grants-more", "exporters-may-export", STAYS, ""),
        ("narrows-forbid", "ceiling", "context.risk >= 80", "context.risk >= 95"),
        ("narrows-forbid", "personal-stays", "forbid (principal,", "permit (principal,"),
        ("grants-more", "exporters-may-export", "context.risk < 40", "context.risk < 55"),
        ("grants-more", "exporters-may-export", ' in Zone::"prepare"', ""),
        ("grants-more", "night", "context.hour < 6", "context.hour < 9"),
    ],
)
def test_what_is_loosened_against_another_policy(kind: str, policy: str, old: str, new: str) -> None:
    answer = report(GOOD.replace(old, new, 1), against=GOOD)
    assert (kind, policy) in {(one.kind, one.policy) for one in answer.findings}
    assert all(one.example for one in answer.findings if one.kind == "grants-more")


STAYS_FORBID = '@id("personal-stays")'


@pytest.mark.parametrize(
    ("was", "now", "told"),
    [
        ("", "budget=5/minute", True),
        ("budget=5/minute", "budget=5000/minute", True),
        ("budget=5/minute; rounded-answer=2", "budget=5/minute", True),
        ("budget=5/minute", "budget=4/minute", False),
        ("budget=5/minute", "budget=5/minute; step-up=300", False),
        ("budget=5/minute", "", False),
    ],
)
def test_a_forbid_that_can_be_met_by_less_is_told(was: str, now: str, told: bool) -> None:
    old, new = (GOOD.replace(STAYS_FORBID, f'{STAYS_FORBID} @oblige("{owes}")' if owes else STAYS_FORBID) for owes in (was, now))
    assert (("owes-less", "personal-stays") in {(one.kind, one.policy) for one in report(new, against=old).findings}) is told


def test_a_narrower_policy_grants_nothing_more() -> None:
    assert found(GOOD.replace("context.risk < 40", "context.risk < 30"), against=GOOD) == set()


def test_a_pack_is_compared_with_itself_where_it_was_changed() -> None:
    text = catalog.pack("ai_lifecycle").text
    changed = text.replace('when { resource.vouches.contains("approval") && context.risk < 40 }', "when { context.risk < 40 }")
    lost = changed.replace('@id("makers-do-not-release")', '@id("makers-may-release")').replace('@id("risk-ceiling")', '@id("ceiling")')
    names = {(one.kind, one.policy) for one in check_files((PolicyText(name="mine.cedar", text=lost),), Nothing(), seconds=1).findings}
    assert {("missing-forbid", "makers-do-not-release"), ("missing-forbid", "risk-ceiling")} <= names


class Nothing(Here):
    """A prover that looks at nothing."""

    def check(self, job: CheckJob) -> Checked:
        assert job.against == "the pack ai_lifecycle.cedar"
        return Checked(unproved=("nothing",))


@pytest.mark.parametrize(
    ("one", "other", "like"),
    [
        ("callers", "calers", True), ("callers", "callers", False), ("serve", "servee", True), ("importer", "importers", True), ("team-1", "team-2", False),
        ("readers", "releasers", False), ("train", "brain", True), ("importers", "exporters", False), ("ab", "cd", False), ("", "a", True), ("trainers", "trianers", True),
    ],
)  # fmt: skip
def test_slips(one: str, other: str, like: bool) -> None:
    assert slip(one, other) == like == slip(other, one)


def test_every_finding_names_file_line_and_fix() -> None:
    answer = report(f'// a line\n{GOOD}\n@id("added") permit (principal, action == Action::"release-key", resource);')
    mine = [one for one in answer.findings if one.policy == "added"]
    assert mine and all(one.file == "mine.cedar" and one.line == GOOD.count("\n") + 3 and one.remedy for one in mine)


def test_out_of_time_is_told() -> None:
    policies = compile_policies(catalog.load([Source("mine.cedar", GOOD)]))
    ticks = iter(range(100_000))
    looked = examine(policies, against=None, clock=lambda: next(ticks), seconds=2)
    assert looked.findings == () and "not looked at" in looked.unproved[-1]


def test_of_two_that_are_the_same_the_later_is_shadowed() -> None:
    twice = GOOD + EXPORT.replace("exporters-may-export", "again")
    assert found(twice) == {("shadowed", "again")}


def test_a_set_goes_to_the_prover_and_comes_back_the_same() -> None:
    policies = compile_policies(
        catalog.load(
            [
                catalog.pack("ai_lifecycle"),
                Source(
                    "mine.cedar",
                    f"\n\n{GOOD.replace('callers-may-infer', 'other').replace('exporters-may-export', 'more').replace('personal-stays', 'less')}",
                ),
            ]
        )
    )
    back = compiled_texts(texts_of(policies), policies.source.schema_text)
    assert [(one.id, one.policy.source, one.policy.line) for one in back.policies] == [
        (one.id, one.policy.source, one.policy.line) for one in policies.policies
    ]
    assert back.digest == policies.digest


def test_the_same_policies_against_themselves() -> None:
    policies = compile_policies(catalog.load([Source("mine.cedar", STAYS)]))
    assert examine(policies, against=Against(policies, policies, "itself"), clock=time.monotonic, seconds=30).findings == ()
