"""Seeds of the targets that read evidence: one honest document of each kind, signed by the tests' own Sigstore and keys."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import documents
import evidence_world
from cryptography.hazmat.primitives.asymmetric import ec

from vouchgate.evidence import model_signing
from vouchgate.evidence.dsse import parse_envelope

HASH = "ab" * 32
STATEMENT = {"_type": "https://in-toto.io/Statement/v1", "subject": [{"name": documents.NAME, "digest": {"sha256": HASH}}]}
SOURCE = "https://github.com/example/model"
PROVENANCE = STATEMENT | {
    "predicateType": "https://slsa.dev/provenance/v1",
    "predicate": {
        "buildDefinition": {
            "buildType": "https://actions.github.io/buildtypes/workflow/v1",
            "externalParameters": {"workflow": {"ref": "refs/tags/v1", "repository": SOURCE, "path": ".github/workflows/release.yml"}},
            "resolvedDependencies": [{"uri": f"git+{SOURCE}@refs/tags/v1", "digest": {"gitCommit": "ab" * 20}}],
        },
        "runDetails": {"builder": {"id": f"{SOURCE}/.github/workflows/release.yml@refs/tags/v1"}, "metadata": {"invocationId": "1"}},
    },
}
BILL = {
    "bomFormat": "CycloneDX",
    "specVersion": "1.6",
    "version": 1,
    "serialNumber": "urn:uuid:3e671687-395b-41f5-a30f-a58921a69b79",
    "metadata": {
        "timestamp": "2026-01-31T12:00:00.000Z",
        "component": {"type": "machine-learning-model", "bom-ref": "m", "name": "m", "hashes": [{"alg": "SHA-256", "content": HASH}]},
    },
    "components": [{"type": "library", "bom-ref": "p", "name": "numpy", "version": "2.0", "purl": "pkg:pypi/numpy@2.0"}],
    "dependencies": [{"ref": "m", "dependsOn": ["p"]}, {"ref": "p"}],
}
RECORD = {
    "id": "PYSEC-1",
    "modified": "2026-01-01T00:00:00Z",
    "affected": [
        {
            "package": {"name": "numpy", "ecosystem": "PyPI"},
            "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "1.0"}, {"fixed": "2.0"}]}],
            "versions": ["1.5"],
        }
    ],
}
VEX = {
    "@context": "https://openvex.dev/ns/v0.2.0",
    "@id": "https://example.com/vex",
    "author": "a",
    "timestamp": "2026-01-01T00:00:00Z",
    "version": 1,
    "statements": [
        {
            "vulnerability": {"name": "PYSEC-1"},
            "products": [{"@id": "model", "subcomponents": [{"@id": "pkg:pypi/numpy@1.5"}]}],
            "status": "not_affected",
            "justification": "vulnerable_code_not_in_execute_path",
        }
    ],
}
LOCKS = (
    f'lock-version = "1.0"\n[[packages]]\nname = "numpy"\nversion = "2.0"\n[[packages.wheels]]\nname = "a.whl"\nhashes = {{sha256 = "{HASH}"}}\n',
    f'[[package]]\nname = "numpy"\nversion = "2.0"\nfiles = [{{file = "a.whl", hash = "sha256:{HASH}"}}]\n',
    f"numpy==2.0 --hash=sha256:{HASH}\n",
)
INSTALLED = (
    "numpy/__init__.py,sha256=ungWv48Bz-pBQUDeXa4iI7ADYaOWF3qctBD_YfIAFa0,3\nnumpy/x.so,,\n",
    "Metadata-Version: 2.1\nName: numpy\nVersion: 2.0\nLicense: BSD\nRequires-Dist: x; extra == 'y'\n\ntext\n",
    "Wheel-Version: 1.0\nTag: py3-none-any\n",
    '{"url": "https://example.com/a.whl", "archive_info": {"hashes": {"sha256": "' + HASH + '"}}}',
)


def seeds(name: str) -> list[bytes]:
    """What the target starts from."""
    found = SEEDS[name]
    return [one if isinstance(one, bytes) else one.encode() if isinstance(one, str) else json.dumps(one).encode() for one in found]


def _attestation() -> dict[str, Any]:
    bundle = documents.WORLD.bundle(
        json.dumps(STATEMENT | {"predicateType": "https://docs.pypi.org/attestations/publish/v1", "predicate": None}).encode()
    )
    material = bundle["verificationMaterial"]
    return {
        "version": 1,
        "verification_material": {"certificate": material["certificate"]["rawBytes"], "transparency_entries": material["tlogEntries"]},
        "envelope": {"statement": bundle["dsseEnvelope"]["payload"], "signature": bundle["dsseEnvelope"]["signatures"][0]["sig"]},
    }


def _listing() -> bytes:
    root = hashlib.sha256(bytes.fromhex(HASH)).hexdigest()
    return json.dumps(
        STATEMENT
        | {
            "subject": [{"name": "m", "digest": {"sha256": root}}],
            "predicateType": "https://model_signing/signature/v1.0",
            "predicate": {
                "serialization": {"method": "files", "hash_type": "sha256", "allow_symlinks": False, "ignore_paths": []},
                "resources": [{"name": "a", "algorithm": "sha256", "digest": HASH}],
            },
        }
    ).encode()


_VOUCH = evidence_world.signed("scan").envelope
_BUNDLES = [documents.WORLD.bundle(json.dumps(PROVENANCE).encode(), generation=one) for one in (1, 2)]
_NOTE = _BUNDLES[1]["verificationMaterial"]["tlogEntries"][0]["inclusionProof"]["checkpoint"]["envelope"]
SEEDS: dict[str, list[Any]] = {
    "dsse": [_VOUCH],
    "vouch": [_VOUCH, *(evidence_world.signed(one).envelope for one in ("serves", "allow", "signature"))],
    "vouch-payload": [parse_envelope(_VOUCH).payload],
    "sigstore-bundle": [*_BUNDLES, documents.WORLD.bundle(b"", file=b"content")],
    "sigstore-root": [documents.WORLD.root()],
    "sigstore-certificate": [documents.WORLD.leaf()],
    "sigstore-checkpoint": [_NOTE],
    "sigstore-timestamp": [documents.WORLD.tsa.stamp(b"signed")],
    "attestation": [_attestation()],
    "model-signature": [model_signing.sign_listing(_listing(), ec.generate_private_key(ec.SECP256R1())), *_BUNDLES],
    "model-listing": [_listing()],
    "provenance": [PROVENANCE],
    "bill-of-materials": [BILL],
    "bill-statement": [STATEMENT | {"predicateType": "https://cyclonedx.org/bom", "predicate": BILL}],
    "lock-file": list(LOCKS),
    "installed": list(INSTALLED),
    "osv": [RECORD],
    "openvex": [VEX],
}
