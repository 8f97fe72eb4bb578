"""The few CEL conditions that are needed, as syntax trees: where RBAC takes them, Envoy is built without the CEL parser."""

from __future__ import annotations

from google.api.expr.v1alpha1 import syntax_pb2

from vouchgate.edges.envoy.messages import Message
from vouchgate.vocabulary.vouches import UnixMillis


def before(time: UnixMillis) -> Message:
    """`request.time < timestamp("...")`, the time as a constant so that no request parses it."""
    constant = syntax_pb2.Expr()
    constant.const_expr.timestamp_value.FromMilliseconds(time)
    return _call("_<_", _request_time(), constant)


def state_is_absent_or_later(key: str) -> Message:
    """`string(filter_state[key]) == "-" || request.time < timestamp(string(filter_state[key]))`; what is not a time is an error: no match."""
    value = _call("string", _call("_[_]", _name("filter_state"), _text(key)))
    return _call("_||_", _call("_==_", value, _text("-")), _call("_<_", _request_time(), _call("timestamp", value)))


def both(left: Message, right: Message) -> Message:
    """`left && right`."""
    return _call("_&&_", left, right)


def _call(function: str, *arguments: Message) -> Message:
    made = syntax_pb2.Expr()
    made.call_expr.function = function
    made.call_expr.args.extend(arguments)
    return made


def _name(name: str) -> Message:
    made = syntax_pb2.Expr()
    made.ident_expr.name = name
    return made


def _text(text: str) -> Message:
    made = syntax_pb2.Expr()
    made.const_expr.string_value = text
    return made


def _request_time() -> Message:
    made = syntax_pb2.Expr()
    made.select_expr.operand.CopyFrom(_name("request"))
    made.select_expr.field = "time"
    return made
