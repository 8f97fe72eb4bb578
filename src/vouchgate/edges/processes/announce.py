"""What `vouchgate up` prints once everything is ready: where things are, and what to try next."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from vouchgate.vocabulary.settings import EndpointSettings, is_loopback

if TYPE_CHECKING:
    from vouchgate.edges.processes.tree import Tree


def announce(tree: Tree, say: Callable[[str], None]) -> None:
    """Addresses, state, next steps."""
    installation = tree.installation
    assert installation is not None
    served = [one for one in tree.settings.endpoints if one.routes]
    say(f"ready after {tree.ready_after:.1f} s")
    say(f"  gateway   https://{installation.gateway}   (mTLS; JWT where an endpoint lists bearer)")
    if installation.plain:
        say(f"  legacy    http://{installation.plain}    (wrapped servers, in observe)")
    if installation.console:
        say(f"  console   http://{installation.console}    (a code: vouchgate admin login)")
    for endpoint in served:
        say(f"  endpoint  {endpoint.name:<12} zone {endpoint.zone}, {len(endpoint.routes)} routes under {endpoint.prefix or '/'}")
    if not tree.users.isolated:
        say("  note: processes share one uid; start as root to keep them apart")
    if served:
        _next_steps(_named(installation.gateway, tree.settings.gateway.hosts), served[0], say)
    say("Ctrl-C ends everything.")


def _named(gateway: str, hosts: Sequence[str]) -> str:
    """The address by a name that stands in the gateway's certificate, where there is one: plain TLS clients compare names."""
    host, _, port = gateway.rpartition(":")
    return f"localhost:{port}" if is_loopback(host) and "localhost" in hosts else gateway


def _next_steps(gateway: str, endpoint: EndpointSettings, say: Callable[[str], None]) -> None:
    """An allowed call, a denied one, and what takes it away; each line can be pasted."""
    route = next((one for one in endpoint.routes if one.method == "GET"), endpoint.routes[0])
    url = f"https://{gateway}{endpoint.prefix}{route.path}"
    act = endpoint.routes[0].action
    say("Try, in another terminal (with .venv/bin on the PATH, beside vouchgate.toml):")
    say(f"  vouchgate identity issue service {endpoint.zone} alice")
    say(f"  curl --cacert alice/bundle.pem --cert alice/svid.pem --key alice/key.pem {url}    # allowed")
    say(f"  curl --cacert alice/bundle.pem {url}    # refused: reason and remedy")
    say(f"  vouchgate why alice {act} {endpoint.name}")
    say("  vouchgate revoke alice --reason 'laptop lost' --yes    # gone from live connections in milliseconds")
    say("  vouchgate status")
