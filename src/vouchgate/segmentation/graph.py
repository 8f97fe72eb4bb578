"""Who and what can get where: a graph of holders and steps, and the shortest ways through it.

    Graph.add(node), Graph.step(...)     what there is, and what leads on
    shortest(graph, starts, goal)        the steps of a shortest way, or None: then there is none
    reached(graph, starts)               everything that is reached, nearest first, each with the step that reaches it first

Rules
1. A node is something in somebody's hands: an identity, a thing that is touched (acted on), or a thing that is held (its content is his).
   Touching a thing leads on only where a step says so; holding it reaches whoever takes content from it.
2. Steps are never lost: equal ends keep the certain step before the possible one, and the first otherwise.
3. Ways are found by breadth, over every start at once; equal lengths are told apart by name, so that the same facts give the same answer.
Left to others: which nodes and steps there are (flows/zones_graph.py).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal, NamedTuple

Flow = Literal["control", "data", "both"]
Kind = Literal["principal", "touched", "held"]


class Node(NamedTuple):
    """Rule 1; a tuple, since ways are found over hundreds of thousands of them."""

    kind: Kind
    name: str

    def told(self) -> str:
        """In words."""
        return self.name if self.kind != "held" else f"content of {self.name}"


@dataclass(frozen=True, slots=True)
class About:
    """What is known of a node."""

    zones: tuple[str, ...]
    what: str
    """Kind of principal or thing."""
    count: int = 1
    """Identities that it stands for."""


@dataclass(frozen=True, slots=True)
class Edge:
    """One step."""

    source: Node
    target: Node
    how: str
    by: str
    flow: Flow
    certain: bool = True


class Graph:
    """See the module's text."""

    def __init__(self) -> None:
        self.about: dict[Node, About] = {}
        self._out: dict[Node, dict[Node, Edge]] = {}
        self.steps = 0

    def add(self, node: Node, about: About) -> None:
        """A node; a second time changes nothing."""
        self.about.setdefault(node, about)

    def step(self, source: Node, target: Node, how: str, by: str, flow: Flow, *, certain: bool = True) -> None:
        """A step between known nodes; one to a node that is not there, or to itself, leads nowhere."""
        if source == target or source not in self.about or target not in self.about:
            return
        known = self._out.setdefault(source, {}).get(target)
        if known is None or (certain and not known.certain):
            self.steps += known is None
            self._out[source][target] = Edge(source, target, how, by, flow, certain)

    def out(self, node: Node) -> list[Edge]:
        """Steps from a node, certain ones first, then by name."""
        found = self._out.get(node, {}).values()
        return sorted(found, key=lambda one: (not one.certain, one.target.name, one.target.kind))

    def nodes_in(self, zone: str) -> list[Node]:
        """What is in a zone, sorted."""
        return sorted((node for node, about in self.about.items() if zone in about.zones), key=lambda one: (one.name, one.kind))


def reached(graph: Graph, starts: Iterable[Node]) -> dict[Node, tuple[int, Edge | None]]:
    """Everything that is reached, nearest first: distance, and the step that reached it first (None for a start)."""
    found: dict[Node, tuple[int, Edge | None]] = {node: (0, None) for node in starts if node in graph.about}
    waiting = deque(found)
    while waiting:
        node = waiting.popleft()
        for edge in graph.out(node):
            if edge.target not in found:
                found[edge.target] = (found[node][0] + 1, edge)
                waiting.append(edge.target)
    return found


def shortest(graph: Graph, starts: Iterable[Node], goal: Callable[[Node], bool]) -> tuple[Edge, ...] | None:
    """The steps of a shortest way to a goal; empty where a start is one; None where there is no way."""
    found: dict[Node, Edge | None] = {node: None for node in starts if node in graph.about}
    waiting = deque(found)
    while waiting:
        node = waiting.popleft()
        if goal(node):
            return _way(found, node)
        for edge in graph.out(node):
            if edge.target not in found:
                found[edge.target] = edge
                waiting.append(edge.target)
    return None


def _way(found: dict[Node, Edge | None], node: Node) -> tuple[Edge, ...]:
    steps: list[Edge] = []
    edge = found[node]
    while edge is not None:
        steps.append(edge)
        edge = found[edge.source]
    return tuple(reversed(steps))
