"""The graph of who gets where: every caller x action x thing is decided, once for all that are alike, and what follows from that is joined.

Rules
1. Deciding is three-valued: facts of the request are unknown, risk is the lowest; what depends on the request is possible, and possible counts.
   Where a policy reads how a caller proved itself, or whether it acts for somebody, every way is tried.
2. Acting on a thing touches it. Actions of WRITES hold its content too; whoever may do an action of READS on a thing takes its content.
3. What may come into a zone (`ingest`, `import`, `admit`, and what `promote`, `export`, `deploy` bring) is a thing of its own, with every vouch:
   whoever may read such a thing takes it. Bringing an artifact in is no act on its like that lies elsewhere: whoever brings it has it.
4. Content: a name and what it stands for, a model and what it was made into, a model and its adapters, a model and the endpoint that serves it,
   a server and its endpoint, an endpoint and whoever it answers.
5. Becoming: who registers or issues identities becomes any that holds no role of which he is short; who begins runs, a job. With `solo`, who
   writes the policy may do everything. A secret is held by whom it is released to, and with it what it opens.
6. A zone that observes lets every call pass, whatever is decided.
7. Bounds (`MAX_DECISIONS`, `MAX_SECONDS`): what was not looked at is said, and nothing is proved then.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from vouchgate.flows.zones_facts import Alike, Seen, callers_alike, things_alike
from vouchgate.policy.compile import Evaluation, Request, evaluate
from vouchgate.policy.facts import REQUEST_FACTS, resource_uid
from vouchgate.policy.unknowns import TRUE
from vouchgate.policy.values import Uid, Values, values
from vouchgate.segmentation.graph import About, Flow, Graph, Node
from vouchgate.vocabulary.crossing_words import ALONE, ENTERING, GROUPS, LEAVING, POLICIES, kinds_of
from vouchgate.vocabulary.names import principal_parts, resource, resource_parts
from vouchgate.vocabulary.places import asks
from vouchgate.vocabulary.vouches import TIERS

MAX_DECISIONS = 600_000
"""Decisions of one analysis; about 10 s of one core."""
MAX_SECONDS = 30.0
"""Of one analysis, of the processor; the control plane decides beside it."""
READS = frozenset({"read", "transform", "label", "train", "fine-tune", "evaluate", "export", "release-key", *GROUPS["use"]})
"""Actions by which a caller takes content from a thing."""
WRITES = frozenset({"ingest", "import", "admit", "transform", "label", "promote", "deploy", "sign", "train", "fine-tune"})
"""Actions by which a thing's content becomes the caller's doing; training writes what it makes, where it is not said otherwise."""
REGISTERS = ("administer:register", "administer:issue-identity", "administer:join-token")
AUTHORS = "administer:author-policy"
RESERVED = "0" * 32
"""In the names of things that are only imagined."""
CHAIN = frozenset({"depth", "actor", "on_behalf_of"})
"""Facts of a chain of actors, unknown as those of the request are."""
_WAYS = ("x509", "jwt", "both", "uid", "session", "cookie")
_PLACEABLE = {"dataset": "Dataset", "model": "Model", "adapter": "Adapter", "artifact": "Artifact"}


@dataclass(frozen=True, slots=True)
class Triple:
    """One decision that is not a no."""

    caller: Alike
    action: str
    thing: Alike
    certain: bool
    by: str


@dataclass
class Built:
    """A graph and what it was made of."""

    graph: Graph
    callers: list[Alike]
    things: list[Alike]
    triples: list[Triple]
    stands_for: dict[str, str] = field(default_factory=dict)
    """Caller or thing -> the first of those alike."""
    decisions: int = 0
    cut: str = ""


class _Bound(Exception):
    """The bound is reached."""


class Builder:
    """See the module's text."""

    def __init__(self, seen: Seen, *, max_decisions: int = MAX_DECISIONS, max_seconds: float = MAX_SECONDS) -> None:
        self._seen, self._most, self._until = seen, max_decisions, time.thread_time() + max_seconds
        self._ways = list(_ways(seen))
        self._coming = [_coming(seen, zone, kind) for zone in sorted(seen.zones) for kind in _PLACEABLE]
        self.made = Built(Graph(), callers_alike(seen), things_alike(seen), [])
        self.made.stands_for = {name: one.name for one in (*self.made.callers, *self.made.things) for name in one.members}

    def build(self) -> Built:
        """Everything, or as much as the bounds let."""
        self._nodes()
        try:
            self._decided()
            self._entering()
            self._becoming()
        except _Bound:
            self.made.cut = f"there is more to decide than {self._most} decisions or the time allow; ask about fewer callers or things"
        self._content()
        return self.made

    # -- nodes

    def _nodes(self) -> None:
        graph = self.made.graph
        for one in self.made.callers:
            graph.add(Node("principal", one.name), About(one.zones, one.what, len(one.members)))
        for one in (*self.made.things, *self._coming):
            graph.add(Node("touched", one.name), About(one.zones, one.what, len(one.members)))
            graph.add(Node("held", one.name), About(one.zones, one.what, len(one.members)))

    # -- decisions

    def _ask(self, caller: Alike, action: str, thing: str, target: str | None = None) -> tuple[bool, str] | None:
        """Rule 1: whether it is certain, and what lets it; None for a no."""
        who, what, do = Uid("Principal", caller.name), resource_uid(thing), Uid("Action", action)
        if all(one.forbids for one in self._seen.policies.in_scope(who, do, what, self._seen.world)):
            return None
        unknown = (REQUEST_FACTS - {"target"} if target is not None else REQUEST_FACTS) | CHAIN
        possible = ""
        for way in self._ways:
            self.made.decisions += 1
            if self.made.decisions > self._most or (self.made.decisions % 256 == 0 and time.thread_time() > self._until):
                raise _Bound
            context = {**way, "target": target} if target is not None else way
            said = evaluate(self._seen.policies, Request(who, do, what, context), self._seen.world, unknown)
            if said.effect == "allow":
                return True, _by(said)
            if said.effect == "residual":
                possible = possible or _by(said)
        return (False, possible) if possible else None

    def _decided(self) -> None:
        """Rules 2 and 6."""
        for thing in self.made.things:
            for action in self._actions(thing):
                for caller in self.made.callers:
                    said = self._ask(caller, action, thing.name)
                    if said is None and self._observed(thing, action):
                        said = (True, f"zone `{thing.zones[0]}` observes")
                    if said is not None:
                        self._acts(Triple(caller, action, thing, *said))

    def _observed(self, thing: Alike, action: str) -> bool:
        return thing.what in ("endpoint", "tool") and action in GROUPS["use"] and not self._seen.observing.isdisjoint(thing.zones)

    def _actions(self, thing: Alike) -> list[str]:
        """What can be asked of it at all: an endpoint's routes, and what is asked of a thing by its kind."""
        if thing.what == "endpoint":
            return sorted({*offered(self._seen, thing.name), "exchange"})
        if thing.what == "tool":
            return ["call-tool"]
        kind = "key" if thing.what == "system" else thing.what
        entering = ENTERING if kind == "artifact" else ()
        return sorted(action for action in (*GROUPS["move"], *ALONE) if kind in kinds_of(action) and action not in entering)

    def _acts(self, triple: Triple) -> None:
        self.made.triples.append(triple)
        who, graph = Node("principal", triple.caller.name), self.made.graph
        touched, held = Node("touched", triple.thing.name), Node("held", triple.thing.name)
        flow: Flow = "both" if triple.action in GROUPS["use"] else "control"
        graph.step(who, touched, f"may {triple.action}", triple.by, flow, certain=triple.certain)
        if triple.action in WRITES or triple.thing.what == "system":
            graph.step(who, held, f"may {triple.action}, which writes", triple.by, "control", certain=triple.certain)
        if triple.action in READS:
            graph.step(held, who, f"is taken in by `{triple.action}`", triple.by, "data", certain=triple.certain)
        if triple.action in LEAVING:
            self._leaving(triple, held, who)

    def _leaving(self, triple: Triple, held: Node, who: Node) -> None:
        """Rule 3: what is taken into another zone."""
        for coming in self._coming:
            if coming.what != triple.thing.what or coming.zones[0] in triple.thing.zones:
                continue
            said = self._ask(triple.caller, triple.action, triple.thing.name, coming.zones[0])
            if said is not None:
                for source in (held, who):
                    how = f"may be taken there: `{triple.action}`" if source is held else f"may bring it there: `{triple.action}`"
                    self.made.graph.step(source, Node("held", coming.name), how, said[1], "data", certain=said[0])

    def _entering(self) -> None:
        """Rule 3: what somebody brings in, and who takes it."""
        nowhere = _nowhere(self._seen)
        for coming in self._coming:
            held = Node("held", coming.name)
            for caller in self.made.callers:
                who = Node("principal", caller.name)
                for action in ENTERING:
                    content = coming.what == "artifact"
                    said = self._ask(caller, action, nowhere if content else coming.name, coming.zones[0] if content else None)
                    if said is not None:
                        self.made.graph.step(who, held, f"may bring in something new: `{action}`", said[1], "control", certain=said[0])
                for action in sorted(READS & set(GROUPS["move"])):
                    said = self._ask(caller, action, coming.name) if coming.what in kinds_of(action) else None
                    if said is not None:
                        self.made.graph.step(held, who, f"is taken in by `{action}`", said[1], "data", certain=said[0])

    def _becoming(self) -> None:
        """Rule 5."""
        control = resource(self._seen.trust_domain, "system", "control")
        for caller in self.made.callers:
            who, roles = Node("principal", caller.name), _roles(self._seen, caller.name)
            for action in REGISTERS:
                self._becomes(
                    who,
                    [one for one in self.made.callers if _roles(self._seen, one.name) <= roles],
                    self._ask(caller, action, control),
                    action,
                )
            jobs = [one for one in self.made.callers if one.what in ("job", "step") and _roles(self._seen, one.name) <= roles]
            self._becomes(who, jobs, self._ask(caller, "administer:run", control), "administer:run")
            self._holds(who, caller, control)

    def _becomes(self, who: Node, others: Iterable[Alike], said: tuple[bool, str] | None, action: str) -> None:
        for other in others if said is not None else ():
            assert said is not None
            self.made.graph.step(who, Node("principal", other.name), f"may become it: `{action}`", said[1], "control", certain=said[0])

    def _holds(self, who: Node, caller: Alike, control: str) -> None:
        """Places names, brings secrets, and with `solo` writes the policy."""
        graph = self.made.graph
        wide = [("administer:place", ("dataset", "model", "adapter", "artifact", "key")), ("administer:secret", ("system",))]
        if self._seen.solo:
            wide.append((AUTHORS, ()))
        for action, kinds in wide:
            said = self._ask(caller, action, control)
            for thing in (*self.made.things, *self._coming) if said is not None else ():
                if not kinds or thing.what in kinds:
                    assert said is not None
                    graph.step(who, Node("held", thing.name), f"may change it: `{action}`", said[1], "control", certain=said[0])
            if said is not None and action == AUTHORS:
                self._becomes(who, self.made.callers, said, action)

    # -- content

    def _content(self) -> None:
        """Rule 4."""
        graph = self.made.graph
        for node in list(graph.about):
            if node.kind == "held":
                graph.step(node, Node("touched", node.name), "is held", "holding is acting on it", "control")
        for source, target, how, by in self._links():
            graph.step(self._held(source), self._held(target), how, by, "data")
        servers = {one.endpoint: name for name, one in self._seen.registrations.items() if one.endpoint}
        of = self.made.stands_for
        for endpoint, server in servers.items():
            who, held = Node("principal", of.get(server, server)), Node("held", endpoint)
            graph.step(who, held, "answers for it", f"registration of {server}", "control")
            graph.step(held, who, "runs as it", f"registration of {server}", "control")
        for provider, secret in self._seen.egress_secrets.items():
            name = resource(self._seen.trust_domain, "system", f"secret.{secret}")
            graph.step(self._held(name), Node("touched", provider), "opens it without the gateway", "[[egress]]", "control")
        for run in self._seen.runs:
            who = Node("principal", of.get(run.principal, run.principal))
            for digest in run.inputs:
                held = self._held(resource(self._seen.trust_domain, "artifact", digest))
                graph.step(held, who, "is an input of its run", f"run {run.id}", "data")

    def _held(self, name: str) -> Node:
        """A thing's content, by the one that stands for all that are alike."""
        return Node("held", self.made.stands_for.get(name, name))

    def _links(self) -> Iterator[tuple[str, str, str, str]]:
        td = self._seen.trust_domain
        names: dict[str, list[str]] = {}
        for name, asset in self._seen.assets.items():
            content = asset.digest or (resource_parts(name).name if resource_parts(name).kind == "artifact" else "")
            if content:
                names.setdefault(content, []).append(name)
            if asset.base:
                yield resource(td, "artifact", asset.base), name, "is its base", f"asset {name}"
        for alike in names.values():
            # a ring is enough: whoever changes what one name stands for has changed what the others read
            yield from ((one, other, "is the same content", "its digest") for one, other in zip(alike, (*alike[1:], alike[0]), strict=True))
        for name, endpoint in self._seen.endpoints.items():
            for one in names.get(endpoint.model_digest, ()) if endpoint.model_digest else ():
                yield one, name, "is served by it", "vouch `serves`"
            for tool in endpoint.tools.values():
                yield name, tool, "offers it", "[[endpoints]] tools"
            for model in endpoint.models.values():
                yield name, model, "answers for it", "[[endpoints]] models"
        for digest, derived in self._seen.derived.items():
            for other in derived:
                yield from (
                    (one, two, "was made into it", "vouch of its making") for one in names.get(digest, ()) for two in names.get(other, ())
                )


def offered(seen: Seen, name: str) -> set[str]:
    """What can be asked of an endpoint, by itself or as a model that another one answers for."""
    return {action for one in seen.endpoints.values() for action, asked in asks(one) if asked == name}


def build(seen: Seen, *, max_decisions: int = MAX_DECISIONS, max_seconds: float = MAX_SECONDS) -> Built:
    """The graph of these facts."""
    return Builder(seen, max_decisions=max_decisions, max_seconds=max_seconds).build()


def _ways(seen: Seen) -> Iterator[dict[str, object]]:
    """Rule 1: contexts to try. The base policy only ever forbids the rarer ways more."""
    own = [policy for policy in seen.policies.policies if policy.policy.source != "base.cedar" and not policy.id.startswith(POLICIES)]
    read: set[str] = set()
    for policy in own:
        read |= {"credential", "delegated"} if policy.reads is None else set(policy.reads)
    for credential in _WAYS if "credential" in read else _WAYS[:1]:
        for delegated in (False, True) if "delegated" in read else (False,):
            yield {"risk": 0, "authenticated": True, "credential": credential, "delegated": delegated}


def _by(said: Evaluation) -> str:
    """Policies that let it: the satisfied permits, or those that may be."""
    permits = [one.id for one, mask in zip(said.in_scope, said.masks, strict=True) if mask & TRUE and not one.forbids]
    return ", ".join(permits[:3]) or "policy"


def _roles(seen: Seen, name: str) -> frozenset[str]:
    return frozenset(group for group in seen.registrations[name].groups if group.startswith("role:"))


def _coming(seen: Seen, zone: str, kind: str) -> Alike:
    """Rule 3: something new in a zone, put into the copied world."""
    number = sorted(seen.zones).index(zone)
    name = resource(seen.trust_domain, kind, f"sha256:{number:064x}" if kind == "artifact" else f"new.{number}.{RESERVED}")
    _imagine(seen, name, (zone,))
    return Alike(name, (name,), (zone,), kind)


def _nowhere(seen: Seen) -> str:
    name = resource(seen.trust_domain, "artifact", "sha256:" + "f" * 64)
    _imagine(seen, name, ())
    return name


def _imagine(seen: Seen, name: str, zones: tuple[str, ...]) -> None:
    uid = resource_uid(name)
    seen.world.attributes[uid] = {"vouches": _every_vouch(seen), "labels": Values(), "purposes": _purposes(seen)}
    seen.world.up[uid] = frozenset({uid, *(Uid("Zone", zone) for zone in zones)})


def _every_vouch(seen: Seen) -> Values:
    """Every vouch that any policy of the set names, and the tiers of each."""
    texts = {text.partition("@")[0] for policy in seen.policies.policies for text in _texts(policy.policy.json)}
    return values(made for one in texts for made in (one, *(f"{one}@{tier}" for tier in TIERS)))


def _purposes(seen: Seen) -> Values:
    return values({text for policy in seen.policies.policies for text in _texts(policy.policy.json)})


def _texts(document: object) -> Iterator[str]:
    pending = [document]
    while pending:
        one = pending.pop()
        if isinstance(one, str):
            if len(one) <= 128:
                yield one
        elif isinstance(one, dict):
            pending += one.values()
        elif isinstance(one, list | tuple):
            pending += one


__all__ = ["MAX_DECISIONS", "READS", "WRITES", "Built", "Triple", "build", "principal_parts"]
