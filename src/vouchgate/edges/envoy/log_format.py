"""What Envoy writes of each request: one line at its end; for a streaming route also one at its start, and while it lasts.

The line's fields are in log_fields.py.
"""

from __future__ import annotations

from envoy.config.accesslog.v3 import accesslog_pb2
from envoy.data.accesslog.v3 import accesslog_pb2 as accesslog_data_pb2
from envoy.extensions.access_loggers.file.v3 import file_pb2
from envoy.extensions.access_loggers.filters.cel.v3 import cel_pb2

from vouchgate.edges.envoy.log_fields import LINE
from vouchgate.edges.envoy.messages import Message, packed

GOING_ON_SECONDS = 2.0
"""Between two lines of a request that lasts; the longest that a token's stream is unrecorded should Envoy be killed."""


def _file(path: str) -> Message:
    config = file_pb2.FileAccessLog(path=path)
    config.log_format.text_format_source.inline_string = LINE
    return packed(config)


def end_log(path: str) -> Message:
    """Every request, at its end."""
    made = accesslog_pb2.AccessLog(name="vg.log", typed_config=_file(path))
    made.filter.log_type_filter.types.append(accesslog_data_pb2.DownstreamEnd)
    return made


def start_log(path: str) -> Message:
    """A streaming route's request at the moment when its upstream takes it; a token's subject is not known to this line."""
    return _streaming(path, accesslog_data_pb2.UpstreamPoolReady)


def going_on_log(path: str) -> Message:
    """A streaming route's request every `GOING_ON_SECONDS` while it lasts, with all that is known of it."""
    return _streaming(path, accesslog_data_pb2.DownstreamPeriodic)


def _streaming(path: str, kind: int) -> Message:
    made = accesslog_pb2.AccessLog(name="vg.log", typed_config=_file(path))
    both = made.filter.and_filter.filters
    both.add().log_type_filter.types.append(kind)
    streams = both.add().extension_filter
    streams.name = "vg.streams"
    expression = 'xds.route_metadata.filter_metadata["vg"]["streams"] == true'
    streams.typed_config.CopyFrom(packed(cel_pb2.ExpressionFilter(expression=expression)))
    return made
