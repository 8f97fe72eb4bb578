"""OpenBao's PKI engine signs our CA: a real server, its refusals, and answers that are none."""

from __future__ import annotations

import asyncio
import hashlib
import json
import ssl
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from vouchgate import wiring
from vouchgate.flows.x509_authority import Authority
from vouchgate.flows.x509_state import CaState, MemoryKeys
from vouchgate.identity.bundle import TrustBundle
from vouchgate.identity.ca import make_ca, path_length_of, spki_of, uris_of
from vouchgate.identity.upstream import read_pem_chain
from vouchgate.identity.x509svid import X509Facts, issue_x509, read_x509
from vouchgate.ports.http import Answer
from vouchgate.ports.openbao import sign_intermediate
from vouchgate.vocabulary.errors import InvalidInput, NotPermitted, Unavailable, Unverified

sys.path.insert(0, str(Path(__file__).parents[1] / "protection" / "rotators"))
from owners import bao, openbao

TD = "test.local"
TOKEN = "root-of-the-test"
ROOT_KEY, LEAF = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
PRINCIPAL = f"spiffe://{TD}/service/prod/scorer"


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """A root in `pki`, an issuing CA below it in `pki_issuing`."""
    with tempfile.TemporaryDirectory() as folder, openbao(Path(folder)) as url:
        for mount in ("pki", "pki_issuing"):
            assert bao(url, "POST", f"sys/mounts/{mount}", {"type": "pki", "config": {"max_lease_ttl": "87600h"}})[0] == 204
        root = {"common_name": "corporate root", "ttl": "43800h", "key_type": "ec", "key_bits": 256}
        assert bao(url, "POST", "pki/root/generate/internal", root)[0] == 200
        csr = bao(url, "POST", "pki_issuing/intermediate/generate/internal", {"common_name": "corporate issuing", "key_type": "rsa"})[1]
        signed = bao(url, "POST", "pki/root/sign-intermediate", {"csr": csr["data"]["csr"], "max_path_length": 1, "ttl": "26280h"})[1]
        chain = "\n".join((signed["data"]["certificate"], *signed["data"]["ca_chain"]))
        assert bao(url, "POST", "pki_issuing/intermediate/set-signed", {"certificate": chain})[0] == 200
        yield url


def fingerprint(url: str) -> str:
    pem = bao(url, "GET", "pki/cert/ca")[1]["data"]["certificate"]
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem)).hexdigest()


def authority() -> Authority:
    async def remember(state: CaState) -> None:
        return None

    now = int(time.time() * 1000)
    return Authority(TD, MemoryKeys(ROOT_KEY, make_ca(TD, ROOT_KEY, now=now, days=30)), CaState(), remember=remember)


def sign(url: str, csr: bytes, **changes: Any) -> str:
    pem = x509.load_der_x509_csr(csr).public_bytes(Encoding.PEM).decode()
    wanted = {"mount": "pki", "namespace": "", "token": TOKEN, "csr_pem": pem, "hours": 8_760, "server_ca": ""} | changes
    return wiring.sign_with_openbao(url, **wanted)


@pytest.mark.parametrize(("mount", "certificates"), [("pki", 2), ("pki_issuing", 3)])
def test_a_real_server_signs_our_ca_and_leaves_hold_under_it_alone(server, mount, certificates):
    made, now = authority(), int(time.time() * 1000)
    chain = read_pem_chain(sign(server, asyncio.run(made.request(now)), mount=mount).encode())
    assert len(chain) == certificates
    ours = x509.load_der_x509_certificate(chain[0])
    assert path_length_of(ours) == 0
    assert uris_of(ours) == [f"spiffe://{TD}"]
    asyncio.run(made.install(chain, fingerprint(server), now))
    asyncio.run(made.step("activate", now, force=True))
    issued = asyncio.run(made.issue(spki_of(LEAF.public_key()), PRINCIPAL, now=now, ttl_seconds=600))
    assert list(issued.chain[1:]) == list(chain[:-1])
    bundle = TrustBundle(trust_domain=TD, x509_authorities=made.authorities)
    assert isinstance(read_x509(issued.chain, bundle, now), X509Facts)
    assert chain[-1] not in made.authorities


def test_another_ca_of_the_same_server_cannot_mint_our_names(server):
    made, now = authority(), int(time.time() * 1000)
    asyncio.run(made.install(read_pem_chain(sign(server, asyncio.run(made.request(now))).encode()), fingerprint(server), now))
    asyncio.run(made.step("activate", now, force=True))
    thief = authority()
    stolen = read_pem_chain(sign(server, asyncio.run(thief.request(now))).encode())
    leaf = issue_x509(
        spki_of(LEAF.public_key()),
        PRINCIPAL,
        ca=x509.load_der_x509_certificate(stolen[0]),
        ca_key=thief._with("requested").key,
        trust_domain=TD,
        now=now,
        ttl_seconds=600,
        above=stolen,
    )
    bundle = TrustBundle(trust_domain=TD, x509_authorities=made.authorities)
    assert read_x509(leaf.chain, bundle, now).code == "x509-untrusted"


def test_the_root_is_not_believed_because_the_server_says_so(server):
    made, now = authority(), int(time.time() * 1000)
    chain = read_pem_chain(sign(server, asyncio.run(made.request(now))).encode())
    with pytest.raises(Unverified):
        asyncio.run(made.install(chain, "ab" * 32, now))


def test_a_token_that_may_not_is_refused_and_not_repeated(server):
    with pytest.raises(NotPermitted) as caught:
        sign(server, asyncio.run(authority().request(0)), token="s.nobody-knows-this")
    assert "nobody-knows-this" not in caught.value.reason + caught.value.remedy


def test_what_the_server_refuses_is_said(server):
    with pytest.raises(Unavailable, match="refused"):
        sign(server, asyncio.run(authority().request(0)), mount="cubbyhole")
    with pytest.raises(Unavailable, match="refused"):
        sign(server, asyncio.run(authority().request(0)), csr_pem="junk")


@pytest.mark.parametrize(
    "changes",
    [{"mount": "../sys"}, {"mount": "a?b"}, {"mount": ""}, {"hours": 0}, {"token": "a\r\nx: y"}, {"token": ""}, {"namespace": "a b"}],
)
def test_what_is_malformed_is_not_sent(changes):
    with pytest.raises(InvalidInput):
        sign("http://127.0.0.1:1", asyncio.run(authority().request(0)), **changes)


def test_a_server_that_is_away_is_unavailable():
    with pytest.raises(Unavailable):
        sign("http://127.0.0.1:1", asyncio.run(authority().request(0)))


class Says:
    """A server that answers anything."""

    def __init__(self, status: int, body: bytes) -> None:
        self.answer = Answer(status, {}, body)

    async def post(self, *_: Any, **__: Any) -> Answer:
        return self.answer


@pytest.mark.parametrize(
    "body",
    [
        b"", b"junk", b"[]", b"null", b"{}", b'{"data":[]}', b'{"data":{"certificate":1}}', b'{"data":{"certificate":"x","issuing_ca":"y"}}',
        b'{"data":{"certificate":"-----BEGIN CERTIFICATE-----","ca_chain":"x"}}', b"[" * 100_000,
        json.dumps({"data": {"certificate": "-----BEGIN CERTIFICATE-----", "ca_chain": [None]}}).encode(),
    ],
)  # fmt: skip
def test_an_answer_that_is_none_is_unavailable(body):
    with pytest.raises(Unavailable):
        asyncio.run(sign_intermediate(Says(200, body), "http://x", mount="pki", token="t", csr_pem="", hours=1))


def test_a_refusals_text_is_bounded_and_printable():
    body = json.dumps({"errors": ["\x1b[2J" + "a" * 10_000] * 50}).encode()
    with pytest.raises(Unavailable) as caught:
        asyncio.run(sign_intermediate(Says(400, body), "http://x", mount="pki", token="t", csr_pem="", hours=1))
    assert len(caught.value.reason) < 400
    assert "\x1b" not in caught.value.reason
