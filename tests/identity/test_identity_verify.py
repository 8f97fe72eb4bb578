"""Who is calling: every way to become a `VerifiedPrincipal`, and that there is no other."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from identity_world import AUDIENCE, BUNDLE, CA, CA_KEY, JWT_KEY, KID, LEAF_SPKI, NOW, PRINCIPAL, TD

import vouchgate
from vouchgate.identity import verify
from vouchgate.identity.jwtsvid import issue_jwt
from vouchgate.identity.x509svid import issue_x509
from vouchgate.vocabulary.errors import InvalidInput
from vouchgate.vocabulary.outcomes import Denied
from vouchgate.vocabulary.principals import Principal, Registration, VerifiedPrincipal

OTHER = f"spiffe://{TD}/service/prod/other"


def chain(principal=PRINCIPAL):
    return issue_x509(LEAF_SPKI, principal, ca=CA, ca_key=CA_KEY, trust_domain=TD, now=NOW, ttl_seconds=600)


def token(principal=PRINCIPAL, cnf=""):
    return issue_jwt(
        principal, AUDIENCE, key=JWT_KEY, kid=KID, trust_domain=TD, now=NOW, ttl_seconds=300, jti="abcdefgh12345678", cnf_x5t=cnf
    ).token


def calling(certificates=(), text="", *, bearer=True, now=NOW, audience=AUDIENCE):
    return verify.who_is_calling(certificates, text, BUNDLE, now, audience=audience, bearer=bearer, groups_of=lambda one: (one[-5:],))


def test_a_certificate_alone_is_its_id():
    issued = chain()
    who = calling(issued.chain)
    assert who.principal == Principal(id=PRINCIPAL, groups=("corer",))
    assert (who.credential_kind, who.credential_id, who.authenticated) == ("x509", issued.serial, True)
    assert who.not_after == issued.not_after


def test_a_token_alone_is_its_subject_where_bearer_is_listed():
    who = calling(text=token())
    assert (who.credential_kind, who.credential_id) == ("jwt", "abcdefgh12345678")
    assert calling(text=token(), bearer=False).code == "bearer-not-listed"


def test_both_name_one_caller():
    issued = chain()
    who = calling(issued.chain, token(), bearer=False)
    assert (who.credential_kind, who.principal.id, who.not_after) == ("both", PRINCIPAL, NOW + 300_000)


def test_a_token_bound_to_this_certificate_says_who_acts():
    issued = chain()
    assert calling(issued.chain, token(OTHER, issued.thumbprint)).principal.id == OTHER


@pytest.mark.parametrize(
    ("case", "code"),
    [
        ("nothing", "anonymous"), ("two callers", "two-identities"), ("bound elsewhere", "jwt-bound-elsewhere"), ("bound elsewhere, same name", "jwt-bound-elsewhere"),
        ("bound, no certificate", "jwt-unbound"), ("bad token beside a good certificate", "jwt-malformed"), ("bad certificate beside a good token", "x509-malformed"),
        ("token for another endpoint", "jwt-audience"), ("expired", "x509-expired"),
    ],
)  # fmt: skip
def test_everything_else_is_denied(case, code):
    issued = chain()
    answer = {
        "nothing": calling,
        "two callers": lambda: calling(issued.chain, token(OTHER)),
        "bound elsewhere": lambda: calling(issued.chain, token(OTHER, "ab" * 32)),
        "bound elsewhere, same name": lambda: calling(issued.chain, token(PRINCIPAL, "ab" * 32)),
        "bound, no certificate": lambda: calling(text=token(cnf=issued.thumbprint)),
        "bad token beside a good certificate": lambda: calling(issued.chain, "x"),
        "bad certificate beside a good token": lambda: calling((b"x",), token()),
        "token for another endpoint": lambda: calling(text=token(), audience=AUDIENCE + "2"),
        "expired": lambda: calling(issued.chain, now=NOW + 700_000),
    }[case]()
    assert isinstance(answer, Denied)
    assert answer.code == code
    assert answer.reason
    assert answer.remedy


def forwarded(**changes):
    facts = {"san": PRINCIPAL, "serial": "0a1b", "thumbprint": "ab" * 32, "certificate_not_after": NOW + 9000, "sub": "", "jti": "", "token_not_after": 0, "cnf_x5t": "",
                 "trust_domain": TD, "now": NOW, "bearer": True}  # fmt: skip
    return verify.forwarded(**(facts | changes))


def test_what_the_gateway_forwards_follows_the_same_rules():
    both = {"sub": PRINCIPAL, "jti": "abcdefgh", "token_not_after": NOW + 500}
    assert forwarded().credential_kind == "x509"
    assert forwarded(**both).not_after == NOW + 500
    assert forwarded(san="", **both).credential_kind == "jwt"
    assert forwarded(**(both | {"sub": OTHER, "cnf_x5t": "ab" * 32})).principal.id == OTHER


@pytest.mark.parametrize(
    "changes",
    [
        {"san": ""}, {"san": "spiffe://other.local/service/prod/a"}, {"san": "-"}, {"san": f"spiffe://{TD}"}, {"certificate_not_after": NOW},
        {"sub": OTHER, "token_not_after": NOW + 500}, {"sub": PRINCIPAL, "token_not_after": NOW}, {"san": "", "sub": PRINCIPAL, "token_not_after": NOW + 5, "bearer": False},
        {"san": "", "sub": PRINCIPAL, "token_not_after": NOW + 5, "cnf_x5t": "ab" * 32}, {"sub": "spiffe://other.local/service/prod/a", "token_not_after": NOW + 5},
        {"sub": OTHER, "token_not_after": NOW + 500, "cnf_x5t": "cd" * 32},
    ],
)  # fmt: skip
def test_what_the_gateway_forwards_is_denied(changes):
    assert isinstance(forwarded(**changes), Denied)


def test_a_registration_is_a_standing_cell():
    entry = Registration(principal=PRINCIPAL, trust_domain=TD, groups=("callers",), created_at=NOW, svid_ttl_seconds=60)
    who = verify.registered(entry, NOW)
    assert (who.credential_kind, who.authenticated, who.not_after, who.principal.groups) == ("registered", True, NOW + 60_000, ("callers",))


def test_a_peers_uid_is_its_credential():
    who = verify.peer_uid(1000, Principal(id=f"spiffe://{TD}/person/admin/ann", groups=("role:responder",)), NOW)
    assert (who.credential_kind, who.credential_id, who.authenticated) == ("uid", "uid:1000", True)
    with pytest.raises(InvalidInput):
        verify.peer_uid(-1, who.principal, NOW)


def test_a_session_ends():
    person = Principal(id=f"spiffe://{TD}/person/admin/ann")
    assert verify.session(person, "d" * 64, NOW + 1, NOW).credential_kind == "cookie"
    assert isinstance(verify.session(person, "d" * 64, NOW, NOW), Denied)


def test_a_declared_caller_is_never_authenticated_and_never_somebody_real():
    who = verify.declared(f"spiffe://{TD}/declared/legacy/10.0.0.7", "address:10.0.0.7", NOW)
    assert (who.authenticated, who.credential_kind, who.principal.groups) == (False, "declared", ())
    for name in (PRINCIPAL, f"spiffe://{TD}/person/admin/ann", "x"):
        with pytest.raises(InvalidInput):
            verify.declared(name, "address:10.0.0.7", NOW)


MINTERS = {"VerifiedPrincipal": "identity/verify.py", "VerifiedVouch": "evidence/verify.py"}


def test_proof_is_minted_in_one_module():
    root = Path(vouchgate.__file__).parent
    makers = {(proof, path.relative_to(root).as_posix()) for path in root.rglob("*.py") for proof in minted(path)}
    assert makers == set(MINTERS.items())


def minted(path: Path) -> set[str]:
    """The proofs that a source file makes: by calling the type, or by having it decoded."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.id if isinstance(node.func, ast.Name) else node.func.attr if isinstance(node.func, ast.Attribute) else ""
        decoded = name in {"decode", "from_plain", "convert", "Decoder", "replace"}
        found |= MINTERS.keys() & ({name} | {arg.id for arg in node.args if decoded and isinstance(arg, ast.Name)})
    return found


def test_a_verified_principal_cannot_be_changed():
    who = verify.registered(Registration(principal=PRINCIPAL, trust_domain=TD, created_at=NOW), NOW)
    assert isinstance(who, VerifiedPrincipal)
    with pytest.raises(AttributeError):
        who.authenticated = False
