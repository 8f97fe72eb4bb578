"""What loads, what is refused and with which words; bounds; the digest."""

from __future__ import annotations

import pytest
from policy_world import compiled

from vouchgate.policy import catalog
from vouchgate.policy.check import check
from vouchgate.policy.load import InvalidPolicy, Source, read, split
from vouchgate.vocabulary.errors import NotFound

INFER = 'action == Action::"infer", resource'


def load(text: str):
    return catalog.load([Source("mine.cedar", text)])


@pytest.mark.parametrize("name", [name for name in catalog.packs() if name != "base"])
def test_every_pack_loads_without_a_finding(name):
    assert catalog.load([catalog.pack(name)]).policies[0].source == "base.cedar"
    assert check([catalog.pack(name)]) == []


def test_the_base_policy_is_always_first_and_once():
    policies = catalog.load([catalog.pack("base"), catalog.pack("base")]).policies
    assert [policy.id for policy in policies] == [policy.id for policy in catalog.load([]).policies]


def test_an_unknown_pack_is_named():
    with pytest.raises(NotFound, match=r"`\.\./secrets`"):
        catalog.pack("../secrets")


@pytest.mark.parametrize(
    ("text", "words", "remedy"),
    [
        (f"permit (principal, {INFER});", "no name", "@id"),
        (f'@id("Ünsafe `") permit (principal, {INFER});', "name of the policy", "lower-case"),
        (f'@id("") permit (principal, {INFER});', "no name", "@id"),
        (f'@id("base-auditor") permit (principal, {INFER});', "has the name of", "name of its own"),
        (f'@id("a") permit (principal, {INFER});\n@id("a") permit (principal, {INFER});', "line 2", "name of its own"),
        ('@id("a") permit (principal == ?principal, action, resource);', "template", "group"),
        ('@id("a") permit (principal, action == Action::"infr", resource);', "`a` (mine.cedar, line 1): unrecognized action", "schema"),
        (f'@id("a") permit (principal, {INFER}) when {{ resource.model.vouches.contains("scan") }};', "optional attribute `model`",
         "resource has model"),
        (f'@id("a") permit (principal, {INFER}) when {{ context.hour < 6 }};', "optional attribute `hour`", "context has hour"),
        (f'@id("a") permit (principal, {INFER}) when {{ context.colour == "red" }};', "`colour`", ""),
        (f'@id("a") permit (principal, {INFER}) when {{ foo }};', "line 1: the policy cannot be read: invalid variable: foo", "line"),
        (f'// first\n@id("a") permit (principal, {INFER});\n\n@id("b") permit (principal, {INFER}) when {{ foo bar }};', "line 4", ""),
        (f'@id("a") permit (principal, {INFER})', "cannot be read", ";"),
        ("{", "cannot be read", ";"),
        ('"', "cannot be read", ";"),
    ],
)  # fmt: skip
def test_a_refusal_names_policy_line_and_fix(text, words, remedy):
    with pytest.raises(InvalidPolicy) as refused:
        load(text)
    assert words in refused.value.reason
    assert remedy in refused.value.remedy


@pytest.mark.parametrize(
    "condition",
    [
        "(" * 65 + "true" + ")" * 65,
        "!" * 300 + "true",
        " && ".join(["true"] * 300),
        " && ".join(["true"] * 100_000),
        "if true then " * 300 + "true" + " else true" * 300,
        "principal" + ".a" * 40_000,
        "principal has " + ".".join(["a"] * 3_000),
        "+".join(["1"] * 300),
        "[" + ",".join(["1"] * 2_500) + "].contains(1)",
        f'"{"x" * 70_000}" == "x"',
        "1 == 1 //\r" + "&& true" * 300,
    ],
    ids=lambda text: text[:24],
)
def test_oversized_policies_never_reach_cedars_parser(condition):
    with pytest.raises(InvalidPolicy, match="too large"):
        load(f'@id("a") permit (principal, {INFER}) when {{ {condition} }};')


def test_many_small_policies_load_and_too_many_do_not():
    text = "".join(f'@id("p{number}") permit (principal in Group::"g{number}", {INFER});' for number in range(1_000))
    assert len(load(text).policies) > 1_000
    with pytest.raises(InvalidPolicy, match="bound is"):
        load("permit(principal,action,resource);" * 10_001)
    with pytest.raises(InvalidPolicy, match="bytes"):
        load("//" + "x" * 1_100_000)


def test_lines_are_found_through_comments_and_strings():
    text = '// a; b { "\n\n@id("a")\npermit (principal, action, resource) when { "; // }" == "\\";" };  @id("b") forbid (principal,\naction, resource);\n'
    assert [line for line, _ in split(Source("x", text))] == [3, 4]


def test_the_digest_follows_meaning_and_order_but_not_layout():
    one = load(f'@id("a") permit (principal, {INFER}); @id("b") forbid (principal, {INFER});')
    same = load(f'// why\n@id("a")\npermit (principal,\n {INFER});\n@id("b") forbid (principal, {INFER});')
    other = load(f'@id("a") permit (principal, {INFER}); @id("c") forbid (principal, {INFER});')
    assert one.digest == same.digest != other.digest
    assert one.digest != catalog.load([]).digest
    assert one.digest.startswith("sha256:")


def test_a_schema_that_cannot_be_read_is_refused():
    with pytest.raises(InvalidPolicy, match="schema"):
        read([], "entity {")


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ("permit (", ["unreadable"]),
        (f"permit (principal, {INFER});", ["unnamed"]),
        ('@id("a") permit (principal, action, resource);', ["unscoped"]),
        (f'@id("a") permit (principal, {INFER}) when {{ context.authenticated && false }};', ["never-matches"]),
        (f'@id("a") permit (principal, {INFER}) when {{ principal.kind == "job" && !(principal.kind == "job") }};', ["never-matches"]),
        (
            f'@id("a") permit (principal in Group::"x", {INFER}) when {{ context.risk < 9 }};\n@id("b") permit (principal, {INFER});',
            ["shadowed"],
        ),
        (
            f'@id("a") permit (principal in Group::"x", {INFER});\n@id("b") forbid (principal, action in Action::"use", resource);',
            ["shadowed"],
        ),
        (f'@id("a") permit (principal, {INFER});\n@id("b") permit (principal, {INFER});', ["shadowed"]),
        (f'@id("a") forbid (principal, {INFER});\n@id("b") permit (principal, action == Action::"chat", resource);', []),
        (f'@id("a") forbid (principal, {INFER});\n@id("b") permit (principal in Group::"x", action in Action::"use", resource);', []),
        (f'@id("a") permit (principal == Principal::"x", {INFER});\n@id("b") permit (principal in Group::"x", {INFER});', []),
    ],
)
def test_check_lists_findings(text, kinds):
    assert [one.kind for one in check([Source("mine.cedar", text)])] == kinds


def test_check_and_load_agree_on_what_is_an_error():
    for text in (f'@id("a") permit (principal, {INFER}) when {{ 60 > context.risk }};', f'@id("a") permit (principal, {INFER});'):
        errors = [one for one in check([Source("mine.cedar", text)]) if one.severity == "error"]
        try:
            load(text)
        except InvalidPolicy:
            assert errors
        else:
            assert not errors


def test_a_finding_names_line_and_fix():
    (found,) = check([Source("mine.cedar", f'\n\n@id("a") permit (principal, {INFER}) unless {{ context.risk >= 60 }};')])
    assert (found.kind, found.policy, found.line, found.source) == ("unsafe-risk", "a", 3, "mine.cedar")
    assert "context.risk < n" in found.fix


def test_a_compiled_set_carries_version_and_digest():
    policies = compiled(f'@id("a") permit (principal, {INFER});')
    assert (policies.version, policies.digest) == (1, policies.source.digest)
