"""Where things run, as export and drift are told on the command line alike: both must mean the same documents."""

from __future__ import annotations

import argparse

from vouchgate.edges.cli.arguments import Usage
from vouchgate.edges.cli.session import Session
from vouchgate.vocabulary.answers_zones import ExportOutcome, ExportRequest

PATH = "/api/v1/zones/export"


def where(parser: argparse.ArgumentParser) -> None:
    """Options that say where the gateway and the zones run."""
    parser.add_argument("--namespace", default="vouchgate", help="namespace of the gateway")
    parser.add_argument("--label", action="append", default=[], metavar="KEY=VALUE", help="label of the gateway's pods")
    parser.add_argument(
        "--zone-namespace", action="append", default=[], metavar="ZONE=NAMESPACE", help="where a zone runs, if not in its own name"
    )
    parser.add_argument("--gateway-account", default="", metavar="NAME", help="service account of the gateway's pods (Istio)")
    parser.add_argument("--account", action="append", default=[], metavar="ZONE=NAME", help="service account of a zone's workloads (Istio)")
    parser.add_argument("--direct", action="store_true", help="open declared crossings past the gateway (Istio)")
    parser.add_argument("--jwks", default="", metavar="URL", help="where the keys of tokens are fetched (Istio)")
    parser.add_argument("--listen", default="127.0.0.1:15443", metavar="HOST:PORT", help="where the first sidecar listens (Envoy)")
    parser.add_argument("--run-dir", default="/run/vouchgate-sidecars", metavar="DIR", help="folder of the sidecars' pipes (Envoy)")


def request(options: argparse.Namespace, to: str) -> ExportRequest:
    """What is asked of the control plane. Raises `Usage`."""
    accounts: dict[str, tuple[str, ...]] = {}
    for zone, name in _pairs(options.account, "--account"):
        accounts[zone] = (*accounts.get(zone, ()), name)
    return ExportRequest(
        to=to,  # type: ignore[arg-type]  # one of the parser's choices
        namespace=options.namespace,
        labels=dict(_pairs(options.label, "--label")),
        namespaces=dict(_pairs(options.zone_namespace, "--zone-namespace")),
        service_account=options.gateway_account,
        service_accounts=accounts,
        direct=options.direct,
        jwks_uri=options.jwks,
        listen=options.listen,
        run_dir=options.run_dir,
    )


def ask(session: Session, options: argparse.Namespace, to: str) -> ExportOutcome:
    """The documents as they are meant now."""
    return session.client.post(ExportOutcome, PATH, request(options, to))


def _pairs(given: list[str], option: str) -> list[tuple[str, str]]:
    found = []
    for text in given:
        left, equals, right = text.partition("=")
        if not left or not equals or not right:
            raise Usage(f"`{text[:80]}` is no pair", remedy=f"write {option} NAME=VALUE")
        found.append((left, right))
    return found
