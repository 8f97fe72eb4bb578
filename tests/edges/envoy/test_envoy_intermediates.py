"""Certificates below an intermediate authority: the chain is checked whole, and within a bound."""

from __future__ import annotations

import datetime
from collections.abc import Callable

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from gateway_harness import TD, Authority, Harness, spiffe

from vouchgate.edges.envoy.messages import SECRET_TYPE
from vouchgate.edges.envoy.secrets import MAX_INTERMEDIATES

pytestmark = pytest.mark.gateway
INFER = "/v2/models/digits/infer"


class Below(Authority):
    """An authority whose certificate another one signed."""

    def __init__(self, above: Authority | None = None, *, ca: bool = True, seconds: float = 3600, uri: str = f"spiffe://{TD}") -> None:
        self.td, self.key, self.above = TD, ec.generate_private_key(ec.SECP256R1()), above
        now = datetime.datetime.now(datetime.UTC)
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"below {id(self)}")])
        made = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(above.certificate.subject if above else name)
            .public_key(self.key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(minutes=5))
            .not_valid_after(now + datetime.timedelta(seconds=seconds))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .add_extension(x509.KeyUsage(not ca, False, False, False, False, ca, ca, False, False), critical=True)
            .add_extension(x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri)]), critical=False)
        )
        made = made.add_extension(x509.SubjectKeyIdentifier.from_public_key(self.key.public_key()), critical=False)
        self.certificate = made.sign(above.key if above else self.key, hashes.SHA256())

    def chain(self) -> str:
        """Its certificate and those above it, without the root."""
        return self.pem + self.above.chain() if isinstance(self.above, Below) and self.above.above else self.pem

    def key_pem(self) -> str:
        private = serialization.PrivateFormat.PKCS8
        return self.key.private_bytes(serialization.Encoding.PEM, private, serialization.NoEncryption()).decode()


@pytest.fixture
def root(gw: Harness) -> Below:
    made = Below(uri=f"spiffe://{TD}")

    def work() -> None:
        svid = gw.ca.issue(spiffe("gateway"), hosts=("localhost",))
        gw.view.set_identity(jwks=gw.ca.jwks(), bundle=gw.ca.pem + made.pem, svid=svid[:2])

    gw.do(work)
    gw.do(gw.ads.wait_acked(SECRET_TYPE, ["trust-bundle"], timeout=3))
    return made


def deep(root: Below, depth: int) -> Below:
    authority = root
    for _ in range(depth):
        authority = Below(authority)
    return authority


def leaf(authority: Below, name: str = spiffe("alice")) -> tuple[str, str]:
    pem, key, _ = authority.issue(name)
    return pem + authority.chain(), key


def test_a_chain_within_the_bound_is_served(gw: Harness, root: Below):
    for depth in range(1, MAX_INTERMEDIATES + 1):
        assert gw.call("POST", INFER, who=leaf(deep(root, depth))).status == 200
    assert gw.call("POST", INFER, who=root.issue(spiffe("alice"))[:2]).status == 200
    assert gw.asked == []


def test_a_rotated_intermediate_needs_no_push(gw: Harness, root: Below):
    old, new = deep(root, 1), deep(root, 1)
    live = gw.connect(leaf(old))
    assert gw.call("POST", INFER, on=live).status == 200
    assert gw.call("POST", INFER, who=leaf(new)).status == 200
    assert gw.call("POST", INFER, on=live).status == 200


def with_other_certificates(authority: Below, *others: Below) -> tuple[str, str]:
    pem, key, _ = authority.issue(spiffe("alice"))
    return pem + "".join(other.pem for other in others), key


def with_its_own_root(_: Below) -> tuple[str, str]:
    other = Below()
    below = deep(other, 1)
    return with_other_certificates(below, below, other)


BAD: dict[str, Callable[[Below], tuple[str, str]]] = {
    "too deep": lambda root: leaf(deep(root, MAX_INTERMEDIATES + 1)),
    "without its intermediate": lambda root: with_other_certificates(deep(root, 1)),
    "with another's intermediate": lambda root: with_other_certificates(deep(root, 1), deep(root, 1)),
    "below an expired one": lambda root: leaf(Below(root, seconds=-60)),
    "below one that is no authority": lambda root: leaf(Below(root, ca=False, uri=spiffe("mallory"))),
    "below another root": lambda root: leaf(deep(Below(), 1)),
    "with its own root": with_its_own_root,
}


@pytest.mark.parametrize("kind", BAD)
def test_a_chain_that_does_not_hold_ends_the_handshake(gw: Harness, root: Below, kind: str):
    with pytest.raises(OSError, match=r"."):
        gw.call("POST", INFER, who=BAD[kind](root))
    assert gw.asked == []


def test_an_authority_s_own_certificate_is_no_caller(gw: Harness, root: Below):
    made = deep(root, 1)
    try:
        answer = gw.call("POST", INFER, who=(made.chain(), made.key_pem()))
    except OSError:
        return
    assert (answer.status, answer.json["title"]) == (401, "bad name")


def test_revoking_a_leaf_below_an_intermediate_strikes_it_alone(gw: Harness, root: Below):
    authority = deep(root, 1)
    pem, key, _ = authority.issue(spiffe("alice"), serial=0xABCDEF)
    gw.revoke("credential", "abcdef")
    assert gw.call("POST", INFER, who=(pem + authority.chain(), key)).status == 403
    assert gw.call("POST", INFER, who=leaf(authority)).status == 200


def test_a_partner_s_intermediate_vouches_for_its_own_domain_alone(gw: Harness):
    root = Below(uri="spiffe://partner.local")
    authority = deep(root, 1)
    gw.trust_partners({"partner.local": root.pem})
    answer = gw.call("POST", INFER, who=leaf(authority, "spiffe://partner.local/x"), port=gw.federated_port)
    assert (answer.status, gw.asked[0].federated) == (403, "spiffe://partner.local/x")
    for name in (spiffe("alice"), "spiffe://second.local/x"):
        with pytest.raises(OSError, match=r"."):
            gw.call("POST", INFER, who=leaf(authority, name), port=gw.federated_port)
