"""What the Model Context Protocol's messages ask for, as actions (MCP 2025-06-18 and later, streamable HTTP transport).

A method that is not listed is refused. `tools/call` asks for one tool, which is a resource of its own; everything else asks for the endpoint.
"""

from __future__ import annotations

from vouchgate.vocabulary.names import ResourceId, resource, resource_parts

MCP = "mcp"
"""Action of a route whose body says what is asked for."""
CALL_TOOL = "call-tool"
RESPONSE = "response"
"""Stands for a message without a method: what a client answers to its server."""
NOTIFICATIONS = "notifications/*"
"""Stands for every method that begins so."""
METHODS: dict[str, str] = {
    "initialize": "describe",
    "server/discover": "describe",
    "ping": "describe",
    NOTIFICATIONS: "describe",
    RESPONSE: "describe",
    "logging/setLevel": "describe",
    "tools/list": "describe",
    "resources/list": "describe",
    "resources/templates/list": "describe",
    "prompts/list": "describe",
    "tools/call": CALL_TOOL,
    "resources/read": "read-resource",
    "resources/subscribe": "read-resource",
    "resources/unsubscribe": "read-resource",
    "subscriptions/listen": "read-resource",
    "prompts/get": "get-prompt",
    "completion/complete": "complete",
}
"""Method -> action; [[endpoints]] `methods` adds to it or replaces."""


def tool_id(endpoint: str, tool: str) -> ResourceId:
    """The resource of one tool: `vg://td/tool/<endpoint>.<tool>`, in lower case. Raises `InvalidName`."""
    parts = resource_parts(endpoint)
    return resource(parts.trust_domain, "tool", f"{parts.name}.{tool.lower()}")
