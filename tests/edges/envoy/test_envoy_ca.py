"""The X.509 authority at a real Envoy: rotations under load, a root's way, a CA above ours and its other CAs, and the reader's vectors."""

from __future__ import annotations

import asyncio
import base64
import http.client
import ssl
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from gateway_harness import TD, Harness, spiffe

from vouchgate.edges.envoy.messages import SECRET_TYPE
from vouchgate.edges.envoy.settings import BUNDLE_SECRET, SVID_SECRET
from vouchgate.flows.x509_authority import Authority
from vouchgate.flows.x509_state import CaState, MemoryKeys
from vouchgate.identity.bundle import TrustBundle
from vouchgate.identity.ca import load_ca, make_ca, spki_of
from vouchgate.identity.x509svid import issue_x509, read_x509
from vouchgate.vocabulary.outcomes import Denied

pytestmark = [pytest.mark.gateway, pytest.mark.filterwarnings("ignore::cryptography.utils.CryptographyDeprecationWarning")]
IDENTITY = Path(__file__).parents[2] / "identity"
ALICE = spiffe("alice")


def now() -> int:
    return int(time.time() * 1000)


def pem(ders: Any) -> str:
    return "".join(ssl.DER_cert_to_PEM_cert(der) for der in ders)


def key_pem(key: ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()).decode()


class Rotating:
    """An authority whose bundle and gateway certificate are pushed as the control plane does it."""

    def __init__(self, gw: Harness) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        keys = MemoryKeys(key, make_ca(TD, key, now=now(), days=30))
        self.gw = gw
        self.authority = Authority(TD, keys, CaState(), remember=self._remember)
        self.push()

    async def _remember(self, state: CaState) -> None:
        """Nothing restarts here."""

    def issue(self, name: str, hosts: tuple[str, ...] = ()) -> tuple[str, str]:
        key = ec.generate_private_key(ec.SECP256R1())
        made = asyncio.run(self.authority.issue(spki_of(key.public_key()), spiffe(name), now=now(), ttl_seconds=600, dns=hosts))
        return pem(made.chain), key_pem(key)

    def step(self, step: Any) -> None:
        asyncio.run(self.authority.step(step, now(), force=True))
        self.push()

    def push(self) -> None:
        svid = self.issue("gateway", hosts=("localhost",))
        self.gw.do(lambda: self.gw.view.set_identity(jwks=self.gw.ca.jwks(), bundle=pem(self.authority.authorities), svid=svid))

    def context(self, identity: tuple[str, str]) -> ssl.SSLContext:
        """A client that shows its chain and verifies the gateway's against today's bundle."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(cadata=pem(self.authority.authorities))
        path = self.gw.dir / f"{threading.get_ident()}.pem"
        path.write_text(identity[0] + identity[1])
        context.load_cert_chain(path)
        return context


def ask(connection: http.client.HTTPConnection) -> int:
    connection.request("POST", "/v2/models/digits/infer", headers={"host": "localhost"})
    answer = connection.getresponse()
    answer.read()
    return answer.status


def once(gw: Harness, context: ssl.SSLContext) -> int | str:
    connection = http.client.HTTPSConnection("localhost", gw.port, context=context, timeout=5)
    try:
        return ask(connection)
    except (OSError, http.client.HTTPException) as error:
        return type(error).__name__
    finally:
        connection.close()


def until(what: Any, seconds: float = 5) -> Any:
    end = time.monotonic() + seconds
    while not (answer := what()) and time.monotonic() < end:
        time.sleep(0.02)
    return answer


def test_three_rotations_under_load_drop_nothing(own):
    """Requests on one connection that lives through it all, on new ones with the newest leaf, and with a leaf of the first issuer."""
    gw = own()
    rotating = Rotating(gw)
    first = rotating.issue("alice")
    until(lambda: once(gw, rotating.context(first)) == 200)
    newest, failures, counts, stop = [first], [], {"live": 0, "new": 0, "old": 0}, threading.Event()

    def work(kind: str) -> None:
        live = http.client.HTTPSConnection("localhost", gw.port, context=rotating.context(first), timeout=5)
        while not stop.is_set():
            try:
                said: Any = ask(live) if kind == "live" else once(gw, rotating.context(newest[0] if kind == "new" else first))
            except (OSError, http.client.HTTPException) as error:
                said = repr(error)
            if said != 200:
                failures.append((kind, said))
            counts[kind] += 1
        live.close()

    threads = [threading.Thread(target=work, args=(kind,)) for kind in counts]
    for thread in threads:
        thread.start()
    chains = set()
    for _ in range(3):
        before = dict(counts)
        until(lambda before=before: all(counts[kind] > before[kind] + 10 for kind in counts))
        rotating.step("issuer")
        newest[0] = rotating.issue("alice")
        chains.add(newest[0][0].rpartition("-----BEGIN")[2])
    before = dict(counts)
    until(lambda: all(counts[kind] > before[kind] + 10 for kind in counts))
    stop.set()
    for thread in threads:
        thread.join(10)
    assert failures == []
    assert len(chains) == 3
    assert min(counts.values()) > 40


def test_a_roots_way_at_the_gateway(own):
    gw = own()
    rotating = Rotating(gw)
    old = rotating.issue("alice")
    assert until(lambda: once(gw, rotating.context(old)) == 200)
    rotating.step("prepare")
    assert once(gw, rotating.context(old)) == 200
    rotating.step("activate")
    new = rotating.issue("alice")
    assert until(lambda: once(gw, rotating.context(new)) == 200)
    assert once(gw, rotating.context(old)) == 200
    rotating.step("retire")
    assert until(lambda: once(gw, rotating.context(old)) != 200)
    assert once(gw, rotating.context(new)) == 200


def test_a_corporate_sub_ca_cannot_mint_our_names_at_the_gateway(own):
    """The corporate CA signs ours and another one; the other's holder signs alice's id and sends everything up to the root along."""
    sys.path.insert(0, str(IDENTITY))
    from test_upstream import BETWEEN, ROOT, ca, named  # the corporate CA of the room's own tests

    gw = own()
    begin = now() - 86_400_000
    ours_key, sibling_key, leaf_key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(3))
    root = ca("corporate root", ROOT, "corporate root", ROOT, begin=begin)
    between = ca("corporate issuing", BETWEEN, "corporate root", ROOT, begin=begin)
    ours = ca("ours", ours_key, "corporate issuing", BETWEEN, length=0, uri=f"spiffe://{TD}", begin=begin)
    assert x509.load_der_x509_certificate(ours).subject == named("ours")

    def leaf(der: bytes, key: ec.EllipticCurvePrivateKey, name: str, *above: bytes, dns: tuple[str, ...] = ()) -> tuple[str, str]:
        made = issue_x509(
            spki_of(leaf_key.public_key()), name, ca=load_ca(der, TD), ca_key=key, trust_domain=TD, now=now(), ttl_seconds=600, dns=dns
        )
        return pem([made.chain[0], *above]), key_pem(leaf_key)

    gateway = leaf(ours, ours_key, spiffe("gateway"), ours, between, dns=("localhost",))
    gw.do(lambda: gw.view.set_identity(jwks=gw.ca.jwks(), bundle=pem([ours]), svid=gateway))

    def shown(identity: tuple[str, str], trusted: bytes = ours) -> int | str:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN if trusted == ours else 0
        context.load_verify_locations(cadata=pem([trusted]))
        path = gw.dir / "shown.pem"
        path.write_text("".join(identity))
        context.load_cert_chain(path)
        return once(gw, context)

    good = leaf(ours, ours_key, ALICE, ours, between)
    assert until(lambda: shown(good) == 200)
    assert shown(leaf(ours, ours_key, ALICE)) == 200
    assert shown(good, trusted=root) == 200  # whoever trusts the corporate root on purpose can verify the gateway
    for subject in ("ours", "sibling"):
        sibling = ca(subject, sibling_key, "corporate issuing", BETWEEN, length=0, uri=f"spiffe://{TD}", begin=begin)
        for above in ((), (sibling,), (sibling, between), (sibling, between, root), (ours, sibling, between), (sibling, ours, between)):
            assert shown(leaf(sibling, sibling_key, ALICE, *above)) != 200, (subject, len(above))
    assert shown(leaf(between, BETWEEN, ALICE, between, root)) != 200
    assert shown(leaf(root, ROOT, ALICE, root)) != 200
    assert shown(good) == 200


SIGNED = "only our own CA could sign it, and ours signs none like it"
RESPELLED = "needs no key, and gains nothing: the principal and the serial by which it is revoked are in the signed part"
CARRIED = "a whole good chain with ballast; the bounds of the handshake are Envoy's"
ONLY_THE_READER = {
    **dict.fromkeys(
        (
            "a binding that is malformed",
            "a boolean of 1",
            "a key usage that is not critical",
            "a leaf for clients alone",
            "a leaf with cA",
            "a leaf with cRLSign",
            "a leaf with keyCertSign",
            "a leaf without key usage",
            "a negative serial",
            "a serial of 21 bytes",
            "a serial of zero",
            "an e-mail address beside the SPIFFE id",
            "an empty subject, a name that is not critical",
            "an issuer whose basic constraints are not critical",
            "an issuer with a path",
            "an issuer with two SPIFFE ids",
            "an issuer without a key id",
            "an issuer without key usage",
            "an issuer's key of P-384",
            "name constraints in a leaf",
            "name constraints that are not critical",
            "no authority key id",
        ),
        SIGNED,
    ),
    "an issuer under a root of path length 0": f"the path length of a self-issued anchor is not looked at; {SIGNED}",
    "a length that is not minimal": RESPELLED,
    "the signature's other spelling": RESPELLED,
    "a hundred certificates": CARRIED,
    "a certificate of 100 KB": CARRIED,
}
"""Vectors that Envoy lets through and our reader refuses, each with the reason why that gives nobody anything."""
ONLY_ENVOY = {"a second certificate of the issuer, signed by somebody else, first"}
"""Vectors that Envoy refuses and our reader accepts: Envoy tries the first issuer of the right name alone."""


def test_what_envoy_lets_through_beyond_the_reader_is_known(own):
    """Two parsers, one set of vectors, made again for now and for alice; a difference that is not listed fails."""
    sys.path.insert(0, str(IDENTITY))
    source = (IDENTITY / "vectors" / "make_vectors.py").read_text()
    at = now() // 1000 * 1000
    for old, new in (
        ("NOW = 1_790_000_000_000", f"NOW = {at}"),
        ('TD = "vectors.test"', f'TD = "{TD}"'),
        ("{TD}/service/prod/scorer", "{TD}/job/serve/alice"),
    ):
        assert source.count(old) == 1
        source = source.replace(old, new)
    made: dict[str, Any] = {"__name__": "vectors_now", "__file__": __file__}
    exec(compile(source, "make_vectors.py", "exec"), made)  # our own generator with another instant
    gw = own()
    key = key_pem(made["LEAF"])
    envoy_alone, reader_alone, agreed = set(), set(), 0
    for which, ders in made["ROOTS"].items():
        if not ders:
            continue
        svid = gw.ca.issue(spiffe("gateway"), hosts=("localhost",))[:2]
        gw.do(lambda ders=ders, svid=svid: gw.view.set_identity(jwks=gw.ca.jwks(), bundle=pem(ders), svid=svid))
        vectors = [one for one in made["x509_vectors"]() if one["bundle"] == which]
        chains = [[base64.b64decode(one) for one in vector["chain"]] for vector in vectors]
        assert gw.do(gw.ads.wait_acked(SECRET_TYPE, [SVID_SECRET, BUNDLE_SECRET], timeout=3)) == {"gateway-1": True}
        for vector, chain in zip(vectors, chains, strict=True):
            ours = not isinstance(read_x509(chain, TrustBundle(trust_domain=TD, x509_authorities=tuple(ders)), at), Denied)
            envoys = _status(gw, chain, key) == 200
            agreed += ours == envoys
            if ours != envoys:
                (envoy_alone if envoys else reader_alone).add(vector["name"])
    assert envoy_alone == set(ONLY_THE_READER)
    assert reader_alone == ONLY_ENVOY
    assert agreed > 60


def _status(gw: Harness, chain: list[bytes], key: str) -> int | str:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    path = gw.dir / "vector.pem"
    path.write_text(pem(chain) + key)
    try:
        context.load_cert_chain(path)
    except ssl.SSLError:  # OpenSSL does not take it up, or it holds another key than the one at hand
        return "not sent"
    return once(gw, context)
