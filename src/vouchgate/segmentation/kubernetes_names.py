"""Names as Kubernetes takes them, for every exporter to it: namespaces, objects, labels.

Source: names: RFC 1123; labels: kubernetes.io, "Labels and Selectors".
"""

from __future__ import annotations

import re

from vouchgate.segmentation.plan import Gateway, Plan
from vouchgate.vocabulary.errors import InvalidInput
from vouchgate.vocabulary.places import Endpoint

ENDPOINT_LABEL, ZONE_LABEL, MANAGED_LABEL = "vouchgate.dev/endpoint", "vouchgate.dev/zone", "app.kubernetes.io/managed-by"

_DNS_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\Z")
_LABEL_VALUE = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?\Z")
_LABEL_KEY = re.compile(r"(?:[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?/)?[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?\Z")


def object_name(endpoint: Endpoint) -> str:
    """The endpoint's last segment, where Kubernetes takes it. Raises `InvalidInput`."""
    name = endpoint.id.rpartition("/")[2]
    if not _DNS_LABEL.match(name) or len(name) > 40:
        raise InvalidInput(
            f"endpoint `{name[:64]}` is no name of a Kubernetes object",
            remedy="name it with lower-case letters, digits and `-`, at most 40 characters",
        )
    return name


def namespace_of(plan: Plan, zone: str, taken: dict[str, str]) -> str:
    """The zone's namespace, once per plan. Raises `InvalidInput`."""
    if not _LABEL_VALUE.match(zone):
        raise InvalidInput(
            f"zone `{zone[:64]}` is no value of a Kubernetes label", remedy="begin and end it with a letter or digit, at most 63 characters"
        )
    namespace = plan.namespaces.get(zone, zone)
    if not _DNS_LABEL.match(namespace):
        raise InvalidInput(f"`{namespace[:64]}` is no Kubernetes namespace (RFC 1123)", remedy=f"give zone `{zone[:64]}` a namespace")
    if namespace == plan.gateway.namespace:
        raise InvalidInput(f"zone `{zone[:64]}` runs in the gateway's namespace", remedy="give the gateway a namespace of its own")
    if namespace in taken:
        raise InvalidInput(
            f"zones `{taken[namespace][:64]}` and `{zone[:64]}` share a namespace", remedy="give each zone a namespace of its own"
        )
    taken[namespace] = zone
    return namespace


def check_gateway(gateway: Gateway) -> None:
    """Labels are never empty: a selector without labels would mean every pod."""
    right = gateway.labels and all(_LABEL_KEY.match(key) and _LABEL_VALUE.match(value) for key, value in gateway.labels.items())
    if not right or not _DNS_LABEL.match(gateway.namespace):
        raise InvalidInput("the gateway's namespace or labels are none that Kubernetes takes", remedy="give its namespace and pod labels")
    if not gateway.ports or any(not 1 <= port <= 65535 for port in gateway.ports):
        raise InvalidInput("the gateway has no port that can be reached", remedy="give its ports, 1 to 65535")
