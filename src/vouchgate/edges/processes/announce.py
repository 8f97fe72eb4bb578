"""What `vouchgate up` prints once everything is ready: where things are, and what to try next."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

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
        _next_steps(served[0].name, served[0].zone, say)
    say("Ctrl-C ends everything.")


def _next_steps(endpoint: str, zone: str, say: Callable[[str], None]) -> None:
    say("Try, in another terminal:")
    say(f"  vouchgate identity issue service {zone} alice")
    say(f"  vouchgate why alice infer {endpoint}          # who, what, because of which evidence")
    say("  vouchgate revoke alice --reason 'laptop lost' # gone from live connections in milliseconds")
    say("  vouchgate status                              # what waits for a person")
