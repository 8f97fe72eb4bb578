"""Whether a gateway could take an endpoint, found out before the change is sequenced: what is recorded is rendered at every start."""

from __future__ import annotations

from collections.abc import Sequence

from vouchgate.edges.envoy.clusters import cluster
from vouchgate.edges.envoy.routes import route_tables
from vouchgate.vocabulary.errors import InvalidInput, VouchgateError
from vouchgate.vocabulary.places import Endpoint


def check_endpoint(endpoint: Endpoint, hosts: Sequence[str]) -> None:
    """Render everything of one endpoint, and throw it away. Raises `InvalidInput`."""
    try:
        route_tables([endpoint], {endpoint.id: 0}, hosts=tuple(hosts))
        cluster(endpoint)
    except VouchgateError:
        raise
    except (ValueError, TypeError, KeyError) as error:
        raise InvalidInput(
            f"the endpoint `{endpoint.id}` cannot be put behind the gateway: {type(error).__name__}",
            remedy="check its upstream, prefix, host and routes",
        ) from None
