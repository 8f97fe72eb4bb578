"""`vouchgate gate kubernetes`: the admission webhook of a cluster, and what the cluster is given so that it asks."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
import sys
from pathlib import Path

from vouchgate.edges.cli.arguments import Usage
from vouchgate.edges.cli.session import Session

SUMMARY = "admit workloads of a Kubernetes cluster only with models that may be deployed"
DETAIL = """`serve` answers AdmissionReviews over HTTPS: what names a model needs its vouches, decided as `deploy` for whoever runs this command.
`manifests` prints the ValidatingWebhookConfiguration and the Service for `kubectl apply -f -`."""
LISTEN = "0.0.0.0:8443"
MAX_CA_BYTES = 1024 * 1024


def arguments(parser: argparse.ArgumentParser) -> None:
    """What it takes."""
    parser.add_argument("act", choices=("serve", "manifests"), help="answer a cluster's questions, or print what it is given")
    parser.add_argument("--certificate", default="", metavar="FILE", help="serve: the gate's certificate with its chain (PEM)")
    parser.add_argument("--key", default="", metavar="FILE", help="serve: its key (PEM)")
    parser.add_argument("--client-ca", default="", metavar="FILE", help="serve: hear only clients with a certificate of this CA")
    parser.add_argument("--listen", default=LISTEN, metavar="HOST:PORT", help=f"serve: where (default {LISTEN})")
    parser.add_argument(
        "--zone-namespace", action="append", default=[], metavar="ZONE=NAMESPACE", help="serve: the zone of a namespace's workloads"
    )
    parser.add_argument("--purpose", default="", help="serve: what models are deployed for; policies see it as `context.purpose`")
    parser.add_argument("--every-pod", action="store_true", help="serve: refuse pods that name no model")
    parser.add_argument("--ca", default="", metavar="FILE", help="manifests: by which CA the cluster knows the gate (PEM)")
    parser.add_argument("--namespace", default="vouchgate", help="manifests: where the gate runs")
    parser.add_argument("--service", default="vouchgate-gate", metavar="NAME", help="manifests: the Service in front of it")
    parser.add_argument(
        "--namespaces", default="labelled", choices=("labelled", "all"), help="manifests: those with vouchgate.dev/gate=enforce, or all"
    )


def run(session: Session, options: argparse.Namespace) -> int:
    """`serve` ends by a signal."""
    return _manifests(session, options) if options.act == "manifests" else _serve(session, options)


def _manifests(session: Session, options: argparse.Namespace) -> int:
    import json

    from vouchgate.edges.kubernetes.manifests import manifests

    if not options.ca:
        raise Usage("the cluster has to know the gate", remedy="name the CA of the gate's certificate with --ca FILE")
    for name in (options.namespace, options.service):
        if not _is_label(name):
            raise Usage(f"`{name[:80]}` is no name of a namespace or service", remedy="lower-case letters, digits and `-`, at most 63")
    made = manifests(namespace=options.namespace, service=options.service, ca=_authority(Path(options.ca)), which=options.namespaces)
    session.printer.line(json.dumps(made, indent=2))
    return 0


def _authority(path: Path) -> bytes:
    from cryptography import x509

    try:
        with path.open("rb") as file:
            data = file.read(MAX_CA_BYTES)
        x509.load_pem_x509_certificates(data)
    except (OSError, ValueError, x509.InvalidVersion) as error:
        raise Usage(f"`{path}` holds no certificates: {error}", remedy="name a PEM file") from None
    return data


def _is_label(name: str) -> bool:
    """RFC 1123, section 2.1, as Kubernetes takes it."""
    plain = name.replace("-", "")
    return 0 < len(name) < 64 and name[0] != "-" != name[-1] and plain.isascii() and plain.isalnum() and name == name.lower()


def _serve(session: Session, options: argparse.Namespace) -> int:
    from vouchgate.edges.kubernetes.review import How
    from vouchgate.edges.kubernetes.webhook import Certificates

    if not options.certificate or not options.key:
        raise Usage("the gate has no certificate", remedy="name --certificate FILE and --key FILE")
    host, port = _address(options.listen)
    certificates = Certificates(Path(options.certificate), Path(options.key), Path(options.client_ca) if options.client_ca else None)
    how = How(zones=_zones(options.zone_namespace), every_pod=options.every_pod, purpose=options.purpose)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_until_ended(session.api, host, port, certificates, how))
    return 0


async def _until_ended(api: Path, host: str, port: int, certificates: object, how: object) -> None:
    from vouchgate.edges.kubernetes.webhook import ASK_SECONDS, Asker, Webhook, build_app
    from vouchgate.vocabulary.answers_gates import GateOutcome, GateRequest

    def post(request: GateRequest) -> GateOutcome:
        # a client of its own: its clock is written by each answer
        from vouchgate.edges.cli.client import Client

        return Client(api).post(GateOutcome, "/api/v1/gates", request, timeout=ASK_SECONDS)

    asker = Asker(post)
    webhook = Webhook(build_app(asker, how), certificates)  # type: ignore[arg-type]
    await webhook.listen(host, port)
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    print(f"the gate listens on {host}:{webhook.port}", file=sys.stderr, flush=True)
    await ended.wait()
    await webhook.close()
    asker.close()


def _address(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon or not host or not (port.isascii() and port.isdigit() and int(port) < 65_536):
        raise Usage(f"`{text[:80]}` is no address", remedy="write HOST:PORT")
    return host.strip("[]"), int(port)


def _zones(given: list[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for text in given:
        zone, equals, namespace = text.partition("=")
        if not equals or not zone or not _is_label(namespace):
            raise Usage(f"`{text[:80]}` is no pair", remedy="write --zone-namespace ZONE=NAMESPACE")
        if found.setdefault(namespace, zone) != zone:
            raise Usage(f"`{namespace}` stands for two zones", remedy="give each namespace one zone")
    return found
