"""Tokens of GitHub, GitLab, Kubernetes, Google, any OIDC provider and a foreign trust domain: what holds, and what is refused."""

from __future__ import annotations

import json

import pytest
from attestor_world import (
    ACCOUNT,
    AUDIENCE,
    CLUSTER,
    NODE,
    NOW,
    OURS,
    POD,
    SECONDS,
    b64,
    ec_key,
    gcp,
    github,
    gitlab,
    jwk,
    jwks,
    jwt,
    kubernetes,
    merged,
    provider_keys,
    rsa_key,
    standard,
    trust,
)  # fmt: skip
from cryptography.hazmat.primitives import serialization
from hypothesis import given, settings
from hypothesis import strategies as st

from vouchgate.identity.attestors import Attested, Trust
from vouchgate.identity.catalog import attest
from vouchgate.vocabulary.errors import InvalidInput
from vouchgate.vocabulary.outcomes import Denied

GITHUB = "https://token.actions.githubusercontent.com"
OIDC = "https://login.corp.example/tenant"
PLAIN = {"required": ("team",), "optional": ("env", "level", "groups", "prod"), "ignored": ("noise",)}


def seen(name: str, token: str, source: Trust, now: int = NOW) -> dict[str, list[str]] | str:
    """Selectors by type, or the code of the refusal."""
    answer = attest(name, {"token": token}, source, now)
    if isinstance(answer, Denied):
        assert answer.reason and answer.remedy and (not token or token not in answer.reason)
        return answer.code
    found: dict[str, list[str]] = {}
    for one in answer.selectors:
        found.setdefault(one.type, []).append(one.value)
    return found


def oidc(**changes):
    return standard(OIDC, **({"team": "ml"} | changes))


def generic(token: str, now: int = NOW, **more):
    return seen("oidc", token, trust("corp", OIDC, **(PLAIN | more)), now)


def test_a_github_job_is_told_by_its_numbers_and_names():
    found = seen("github-actions", jwt(github()), trust("github", GITHUB))
    assert found["github:repository"] == ["octo-org/octo-repo"] and found["github:repository_id"] == ["74"]
    assert found["github:environment"] == ["prod"] and found["github:event_name"] == ["push"] and found["github:ref"] == ["refs/heads/main"]
    assert found["github:job_workflow_ref"][0].startswith("octo-org/automation/") and found["github:actor"] == ["octocat"]
    assert not any(type.rpartition(":")[2] == "workflow" for type in found), "a workflow's name is its author's word"


@pytest.mark.parametrize(
    "changes",
    [
        {"event_name": "pull_request", "head_ref": "patch-1", "base_ref": "main", "ref": "refs/pull/7/merge"}, {"event_name": "pull_request_target"},
        {"event_name": "pull_request_review"}, {"event_name": "push", "ref": "refs/pull/7/merge"}, {"event_name": "new_thing", "head_ref": "patch"},
    ],
)  # fmt: skip
def test_what_a_pull_request_runs_earns_nothing_that_a_push_earns(changes):
    found = seen("github-actions", jwt(github(**changes)), trust("github", GITHUB))
    assert found["github:pull_request:repository"] == ["octo-org/octo-repo"]
    assert all(type.startswith("github:pull_request:") for type in found)


def test_a_second_github_never_speaks_for_the_first():
    server = "https://ghes.corp.example/_services/token"
    found = seen("github-actions", jwt(github(iss=server)), trust("ghes", server))
    assert found["github.ghes:repository"] == ["octo-org/octo-repo"] and not any(type.startswith("github:") for type in found)


@pytest.mark.parametrize(
    "changes",
    [
        {"repository_id": None}, {"sha": None}, {"actor": 5}, {"new_claim": "x"}, {"jti": None}, {"jti": ""}, {"repository": ["a"]},
        {"act": {"sub": "x"}}, {"cnf": {"jkt": "x"}}, {"sub": None}, {"sub": ""}, {"sub": 5}, {"event_name": None},
    ],
)  # fmt: skip
def test_every_github_claim_is_required_optional_or_ignored(changes):
    assert seen("github-actions", jwt(github(**changes)), trust("github", GITHUB)) == "token-claims"


def test_a_gitlab_job_and_its_merge_request():
    source = trust("gitlab", "https://gitlab.example")
    found = seen("gitlab-ci", jwt(gitlab()), source)
    assert found["gitlab:project_id"] == ["20"] and found["gitlab:ref_protected"] == ["true"] and found["gitlab:runner_id"] == ["1"]
    assert not any("email" in type or "groups" in type for type in found)
    for changes in (
        {"pipeline_source": "merge_request_event"}, {"ref_path": "refs/merge-requests/1/head"}, {"ref": "refs/merge-requests/1/head"},
        {"pipeline_source": "external_pull_request_event"},
    ):  # fmt: skip
        merge = seen("gitlab-ci", jwt(gitlab(**changes)), source)
        assert all(type.startswith("gitlab:merge_request:") for type in merge) and merge["gitlab:merge_request:project_id"] == ["20"]
    assert seen("gitlab-ci", jwt(gitlab(surprise="x")), source) == "token-claims"
    assert seen("gitlab-ci", jwt(gitlab(project_id=20)), source) == "token-claims"


def test_a_pod_is_told_by_what_its_token_is_bound_to():
    found = seen("kubernetes-token", jwt(kubernetes()), trust("k8s", CLUSTER))
    assert found == {
        "k8s:ns": ["train"], "k8s:sa": ["trainer"], "k8s:sa_uid": [ACCOUNT], "k8s:pod": ["worker-0"], "k8s:pod_uid": [POD],
        "k8s:node": ["node-1"], "k8s:node_uid": [NODE],
    }  # fmt: skip
    old = kubernetes(bound={"node": None, "warnafter": None}, jti=None)
    assert "k8s:node" not in seen("kubernetes-token", jwt(old), trust("k8s", CLUSTER))
    assert seen("kubernetes-token", jwt(kubernetes()), trust("eu", CLUSTER))["k8s.eu:ns"] == ["train"]


@pytest.mark.parametrize(
    ("bound", "changes", "code"),
    [
        ({"pod": None}, {}, "k8s-token"), ({"serviceaccount": None}, {}, "k8s-token"), ({"namespace": None}, {}, "k8s-token"),
        ({"secret": {"name": "legacy", "uid": POD}}, {}, "k8s-token"), ({"pod": "worker-0"}, {}, "k8s-token"),
        ({"pod": {"name": "worker-0"}}, {}, "k8s-token"), ({"pod": {"name": "worker-0", "uid": "x"}}, {}, "k8s-token"),
        ({"pod": {"name": "../x", "uid": POD}}, {}, "k8s-token"), ({"pod": {"name": "w", "uid": POD, "admin": "1"}}, {}, "k8s-token"),
        ({"namespace": "kube:system"}, {}, "k8s-token"), ({"warnafter": True}, {}, "k8s-token"), ({"namespace": "prod"}, {}, "k8s-token"),
        ({}, {"sub": "system:serviceaccount:train:admin"}, "k8s-token"), ({}, {"kubernetes.io": None}, "token-claims"),
        ({}, {"kubernetes.io": "train"}, "token-claims"), ({}, {"groups": ["system:masters"]}, "token-claims"),
        ({}, {"aud": [AUDIENCE, "https://kubernetes.default.svc"]}, "token-audience"), ({}, {"aud": [CLUSTER]}, "token-audience"),
        ({}, {"exp": SECONDS + 365 * 86400}, "token-life"), ({}, {"iss": "kubernetes/serviceaccount"}, "token-issuer"),
    ],
)  # fmt: skip
def test_a_token_that_is_not_a_pods_is_refused(bound, changes, code):
    assert seen("kubernetes-token", jwt(kubernetes(bound=bound, **changes)), trust("k8s", CLUSTER)) == code


def test_a_google_instance_is_told_by_its_full_token():
    source = trust("gcp", "https://accounts.google.com")
    found = seen("gcp-instance", jwt(gcp()), source)
    assert (
        found["gcp:project"] == ["vouch-test"] and found["gcp:instance"] == ["4570452845155348778"] and found["gcp:confidential"] == ["1"]
    )
    assert found["gcp:sa"] == ["sa@vouch-test.iam.gserviceaccount.com"]
    assert "gcp:sa" not in seen("gcp-instance", jwt(gcp(email_verified=False)), source)
    bad = [gcp(google=None), gcp(google={}), gcp(google="x"), gcp(google={"compute_engine": {}, "more": 1}), gcp(engine={"zone": None}),
           gcp(engine={"rank": "x"}), gcp(hd="corp.example"), gcp(engine={"project_number": "1"})]  # fmt: skip
    assert {seen("gcp-instance", jwt(claims), source) for claims in bad} <= {"gcp-token", "token-claims"}
    assert seen("gcp-instance", jwt(gcp(iss=OIDC)), trust("gcp", OIDC)) == "gcp-token", "only Google speaks for Google's machines"


def test_any_provider_is_read_by_the_claims_that_its_source_lists():
    found = generic(jwt(oidc(env="prod", level=3, groups=["a", "b"], prod=True, noise={"deep": [1]}, jti=None)))
    assert found == {
        "oidc:corp:team": ["ml"], "oidc:corp:env": ["prod"], "oidc:corp:level": ["3"], "oidc:corp:groups": ["a", "b"], "oidc:corp:prod": ["true"],
        "oidc:corp:sub": ["subject"],
    }  # fmt: skip
    for algorithm in ("PS256", "ES256"):
        assert generic(jwt(oidc(), algorithm=algorithm))["oidc:corp:team"] == ["ml"]
    for bad in ({"team": None}, {"team": {"a": 1}}, {"team": 1.5}, {"groups": [1]}, {"unlisted": 1}):
        assert generic(jwt(oidc(**bad))) == "token-claims"
    assert seen("oidc", jwt(oidc()), trust("", OIDC, **PLAIN)) == "token-claims"


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"iss": "https://login.corp.example/tenant/"}, "token-issuer"), ({"iss": None}, "token-issuer"), ({"iss": [OIDC]}, "token-issuer"),
        ({"aud": "other"}, "token-audience"), ({"aud": None}, "token-audience"), ({"aud": []}, "token-audience"),
        ({"aud": [AUDIENCE, AUDIENCE]}, "token-audience"), ({"aud": [AUDIENCE, "other"]}, "token-audience"), ({"aud": AUDIENCE.upper()}, "token-audience"),
        ({"exp": SECONDS}, "token-expired"), ({"exp": SECONDS - 1}, "token-expired"), ({"exp": None}, "token-claims"), ({"iat": None}, "token-claims"),
        ({"exp": str(SECONDS + 9)}, "token-claims"), ({"exp": SECONDS + 9.5}, "token-claims"), ({"exp": True}, "token-claims"), ({"exp": 2**70}, "token-claims"),
        ({"iat": SECONDS + 61}, "token-not-yet"), ({"nbf": SECONDS + 61}, "token-not-yet"), ({"iat": -5}, "token-claims"),
        ({"exp": SECONDS + 86_391}, "token-life"), ({"iat": SECONDS + 50, "exp": SECONDS + 40}, "token-life"), ({"sub": "x" * 1025}, "token-claims"),
        ({"jti": "x" * 513}, "token-claims"), ({"jti": 7}, "token-claims"),
    ],
)  # fmt: skip
def test_the_standard_claims_are_held_to_the_letter(changes, code):
    assert generic(jwt(oidc(**changes))) == code


@pytest.mark.parametrize(
    ("head", "code"),
    [
        ({"alg": "none", "kid": "rsa-1"}, "token-algorithm"), ({"alg": "HS256", "kid": "rsa-1"}, "token-algorithm"), ({"alg": "EdDSA", "kid": "rsa-1"}, "token-algorithm"),
        ({"alg": "rs256", "kid": "rsa-1"}, "token-algorithm"), ({"alg": "RS512", "kid": "rsa-1"}, "token-algorithm"), ({"alg": "ES256", "kid": "rsa-1"}, "token-algorithm"),
        ({"alg": "RS256", "kid": "ec-1"}, "token-algorithm"), ({"alg": "PS256", "kid": "rsa-1"}, "token-algorithm"), ({"alg": "RS256"}, "token-no-key-id"),
        ({"kid": "rsa-1"}, "token-algorithm"), ({"alg": "RS256", "kid": 1}, "token-no-key-id"), ({"alg": ["RS256"], "kid": "rsa-1"}, "token-algorithm"),
        ({"alg": "RS256", "kid": "rsa-1", "jku": "https://evil.example"}, "token-header"), ({"alg": "RS256", "kid": "rsa-1", "jwk": {}}, "token-header"),
        ({"alg": "RS256", "kid": "rsa-1", "x5u": "x"}, "token-header"), ({"alg": "RS256", "kid": "rsa-1", "x5c": ["x"]}, "token-header"),
        ({"alg": "RS256", "kid": "rsa-1", "crit": ["b64"], "b64": False}, "token-header"), ({"alg": "RS256", "kid": "rsa-1", "cty": "JWT"}, "token-header"),
        ({"alg": "RS256", "kid": "rsa-1", "typ": "dpop+jwt"}, "token-type"), ({"alg": "RS256", "kid": "rsa-2"}, "token-unknown-key"),
        ({"alg": "RS256", "kid": ""}, "token-no-key-id"), (b"[]", "token-malformed"), (b'{"alg":"RS256","alg":"none","kid":"rsa-1"}', "token-malformed"),
        (b"not json", "token-malformed"),
    ],
)  # fmt: skip
def test_a_header_that_asks_for_something_else_is_refused(head, code):
    assert generic(jwt(oidc(), head=head)) == code


def test_only_the_recorded_key_counts():
    assert generic(jwt(oidc(), key=rsa_key("thief"))) == "token-signature"
    # Algorithm confusion (RFC 8725, section 2.1): the public key as an HMAC secret.
    public = rsa_key().public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    assert (
        generic(jwt(oidc(), head={"alg": "HS256", "kid": "rsa-1"}, key=rsa_key()).rpartition(".")[0] + "." + b64(public[:32]))
        == "token-algorithm"
    )
    spare = jwk(rsa_key("spare"), "rsa-9")
    assert generic(jwt(oidc()), keys=jwks(spare, jwk(rsa_key(), "rsa-1", use="enc"))) == "token-unknown-key"
    assert generic(jwt(oidc()), keys=jwks(spare, jwk(rsa_key(), "rsa-1", use="jwt-svid"))) == "token-unknown-key"
    assert generic(jwt(oidc()), keys=jwks(jwk(rsa_key(), "rsa-1", alg="PS256"))) == "token-algorithm"
    assert generic(jwt(oidc(), algorithm="ES256"), keys=jwks(jwk(ec_key(), "ec-1", alg="ES384"))) == "token-algorithm"


@pytest.mark.parametrize(
    "key",
    [
        jwk(rsa_key(), "rsa-1", d="x"), {"kty": "oct", "kid": "rsa-1", "k": "c2VjcmV0"}, jwk(rsa_key("other"), "rsa-2"), jwk(rsa_key("weak", 1024), "rsa-1"),
        jwk(rsa_key(), "rsa-1", n="!"), jwk(rsa_key(), "rsa-1", n=""), jwk(rsa_key(), "rsa-1", n=5),
    ],
)  # fmt: skip
def test_a_key_set_with_a_bad_key_is_not_used(key):
    with pytest.raises(InvalidInput):
        generic(jwt(oidc()), keys=jwks(jwk(rsa_key(), "rsa-2"), key))


@pytest.mark.parametrize(
    "keys", [b"", b"{}", b'{"keys":{}}', b'{"keys":[1]}', b'{"keys":[],"keys":[]}', json.dumps({"keys": [{}] * 65}).encode()]
)
def test_keys_that_were_recorded_wrong_are_a_broken_world(keys):
    with pytest.raises(InvalidInput):
        generic(jwt(oidc()), keys=keys)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda t: t + "=", lambda t: t + ".x", lambda t: t.replace(".", "..", 1), lambda t: "", lambda t: "...", lambda t: t.rpartition(".")[0] + ".",
        lambda t: " " + t, lambda t: t + "\n", lambda t: "x" * 20_000, lambda t: t[:-1] + chr(ord(t[-1]) ^ 1), lambda t: t.replace("e", "é", 1),
    ],
)  # fmt: skip
def test_a_token_has_one_spelling(spoil):
    assert generic(spoil(jwt(oidc()))) in ("token-malformed", "token-signature")


@settings(max_examples=60)
@given(st.data())
def test_flipping_any_character_is_noticed(data):
    token = jwt(oidc())
    place = data.draw(st.integers(0, len(token) - 1))
    other = data.draw(st.sampled_from("ABCxyz019-_."))
    if other != token[place]:
        assert isinstance(generic(token[:place] + other + token[place + 1 :]), str)


@settings(max_examples=60)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=9),
        lambda s: st.lists(s, max_size=3) | st.dictionaries(st.text(max_size=9), s, max_size=3),
    )
)
def test_any_signed_claims_get_an_answer(claims):
    for name, source in (("oidc", trust("corp", OIDC, **PLAIN)), ("kubernetes-token", trust("k8s", CLUSTER))):
        assert isinstance(attest(name, {"token": jwt(claims)}, source, NOW), Denied)


def test_what_providers_put_into_the_header_beside_is_taken():
    head = {"alg": "RS256", "kid": "rsa-1", "typ": "JWT", "x5t": "x", "x5t#S256": "y"}
    assert generic(jwt(oidc(), head=head))["oidc:corp:team"] == ["ml"]
    assert generic(jwt(oidc(), head={"alg": "RS256", "kid": "rsa-1"}))["oidc:corp:team"] == ["ml"]


def test_a_replay_key_is_the_tokens_own_whatever_its_signature_is():
    source = trust("corp", OIDC, **PLAIN)
    without = oidc(jti=None)
    one, two = (attest("oidc", {"token": jwt(without, algorithm="ES256")}, source, NOW) for _ in range(2))
    assert isinstance(one, Attested) and isinstance(two, Attested)
    assert one.replay_key == two.replay_key and one.expires_at == without["exp"] * 1000
    with_id = attest("oidc", {"token": jwt(oidc())}, source, NOW)
    assert with_id.replay_key != one.replay_key and with_id.replay_key.startswith(f"{OIDC}:")
    twin = trust("twin", OIDC, **PLAIN)
    assert attest("oidc", {"token": jwt(oidc())}, twin, NOW).replay_key == with_id.replay_key, "two sources of one issuer are one"
    assert attest("oidc", {"token": jwt(oidc(team="x"))}, source, NOW).replay_key == with_id.replay_key


FOREIGN = "partner.example"


def bundle(**changes):
    other = jwk(ec_key("other"), "ec-9", use="jwt-svid")
    return jwks(jwk(ec_key(), "ec-1", **({"use": "jwt-svid"} | changes)), other, {"kty": "EC", "use": "x509-svid", "x5c": ["x"]})


def svid(**changes):
    return merged({"sub": f"spiffe://{FOREIGN}/agent/Planner", "aud": [AUDIENCE], "exp": SECONDS + 300, "iat": SECONDS}, changes)


def foreign(claims, **more):
    source = trust(**({"name": "spiffe", "issuer": FOREIGN, "keys": bundle()} | more))
    return seen("spiffe-jwt", jwt(claims, algorithm="ES256"), source)


def test_a_foreign_trust_domain_speaks_for_its_own_names():
    assert foreign(svid()) == {"spiffe:id": [f"spiffe://{FOREIGN}/agent/Planner"], "spiffe:trust_domain": [FOREIGN]}
    assert foreign(svid(iat=None, iss="https://oidc.partner.example", jti="x")) != "token-claims"


@pytest.mark.parametrize(
    ("changes", "more", "code"),
    [
        ({"sub": f"spiffe://{OURS}/service/prod/api"}, {}, "jwt-svid-foreign"), ({"sub": f"spiffe://{FOREIGN}"}, {}, "jwt-svid-foreign"),
        ({"sub": f"spiffe://{FOREIGN}/"}, {}, "jwt-svid-foreign"), ({"sub": f"spiffe://{FOREIGN}/a/../b"}, {}, "jwt-svid-foreign"),
        ({"sub": f"spiffe://{FOREIGN}/a%2fb"}, {}, "jwt-svid-foreign"), ({"sub": f"spiffe://{FOREIGN}:443/a"}, {}, "jwt-svid-foreign"),
        ({"sub": f"spiffe://{FOREIGN}.evil.example/a"}, {}, "jwt-svid-foreign"), ({"sub": f"SPIFFE://{FOREIGN}/a"}, {}, "jwt-svid-foreign"),
        ({"sub": "agent"}, {}, "jwt-svid-foreign"), ({"aud": "other"}, {}, "token-audience"), ({"exp": None}, {}, "token-claims"),
        ({"role": "admin"}, {}, "token-claims"), ({"act": {"sub": "x"}}, {}, "token-claims"), ({}, {"issuer": OURS}, "jwt-svid-foreign"),
        ({}, {"issuer": ""}, "jwt-svid-foreign"), ({}, {"trust_domain": ""}, "jwt-svid-foreign"), ({}, {"keys": bundle(use="sig")}, "token-unknown-key"),
        ({}, {"keys": bundle(use="x509-svid")}, "token-unknown-key"), ({"exp": SECONDS + 90_000}, {}, "token-life"),
    ],
)  # fmt: skip
def test_a_foreign_svid_that_says_more_is_refused(changes, more, code):
    assert foreign(svid(**changes), **more) == code


def test_evidence_without_its_frame_is_refused_as_a_value():
    source = trust("corp", OIDC, **PLAIN)
    for given_, where, now in (
        ({}, source, NOW),
        ({"token": 5}, source, NOW),
        ({"token": "x", "more": 1}, source, NOW),
        ({"token": "x" * 70_000}, source, NOW),
    ):
        assert attest("oidc", given_, where, now).code == "evidence-malformed"
    assert attest("oidc", {"token": jwt(oidc())}, None, NOW).code == "not-attestable"
    assert attest("oidc", {"token": jwt(oidc())}, source).code == "not-attestable"
    assert attest("oidc", {"token": jwt(oidc())}, Trust(keys=provider_keys(), name="corp"), NOW).code == "token-issuer"
