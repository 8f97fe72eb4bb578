"""What a process that loads a model asks the control plane, and what it is told."""

from __future__ import annotations

from vouchgate.vocabulary.answers import NEVER
from vouchgate.vocabulary.decisions import Missing
from vouchgate.vocabulary.vouches import UnixMillis
from vouchgate.vocabulary.wire import Noun


class LoadRequest(Noun, frozen=True, kw_only=True):
    """May this content be loaded by who asks?"""

    digest: str
    """Of a file, or of a folder (`sha256-tree:...`)."""
    library: str = ""
    """Who is to read it, for the log: `torch`, `onnxruntime` ..."""
    purpose: str = ""
    """What it is loaded for; policies see it as `context.purpose`."""
    endpoint: str = ""
    """Name of the endpoint that is to answer from it: its zone must hold the content."""


class LoadOutcome(Noun, frozen=True, kw_only=True):
    """The decision."""

    allowed: bool
    digest: str
    resource: str
    decision_id: str
    reason: str
    remedy: str = ""
    missing: tuple[Missing, ...] = ()
    """Vouches whose absence decided."""
    hold_ms: int = 0
    """Milliseconds for which an allow may be relied on without asking again."""
    manifest: str = ""
    """`sha256-manifest:...` of the manifest that was vouched for with the content; each tensor can be held to it by itself."""


class ServingRequest(Noun, frozen=True, kw_only=True):
    """This process answers for the endpoint from this content."""

    digest: str
    endpoint: str


class ServingOutcome(Noun, frozen=True, kw_only=True):
    """The `serves` vouch that says so."""

    vouch_id: str
    tier: str
    """`cooperative` for what was said by the process itself; stronger where the supervisor saw it before."""
    expires_at: UnixMillis = NEVER
    renew_ms: int = 0
    """Milliseconds after which it is to be said again."""
