"""One typed error inside, rendered once here: RFC 9457 problem details.

A message of ours goes out as it is, because it is written for the reader; any other exception's text may hold a secret and stays inside,
with its class and place in the log.
"""

from __future__ import annotations

import logging
from pathlib import Path

import msgspec
from starlette.responses import Response

from vouchgate.vocabulary.errors import VouchgateError

MEDIA_TYPE = "application/problem+json"
"""RFC 9457, section 3."""
TYPE_BASE = "https://vouchgate.dev/problem/"
MAX_TEXT = 2000
"""Characters of a reason or remedy; a longer one carries somebody's input."""

log = logging.getLogger("vouchgate.api")


def problem_document(error: VouchgateError, instance: str = "") -> dict[str, object]:
    """The members of RFC 9457, section 3.1, and `remedy` as an extension (section 3.2)."""
    document: dict[str, object] = {
        "type": TYPE_BASE + error.code,
        "title": error.code.replace("-", " "),
        "status": error.status,
        "detail": error.reason[:MAX_TEXT],
        "remedy": error.remedy[:MAX_TEXT],
    }
    return {**document, "instance": instance} if instance else document


def problem(error: VouchgateError, instance: str = "") -> Response:
    """The response for a typed error."""
    headers = {"retry-after": "1"} if error.status in (429, 503) else None
    return Response(msgspec.json.encode(problem_document(error, instance)), error.status, headers, MEDIA_TYPE)


def unexpected(error: BaseException) -> VouchgateError:
    """Log class and place of an error that nobody expected; give back what may be told."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    where = "?" if trace is None else f"{Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}"
    log.error("a request failed: %s at %s", type(error).__name__, where)
    return VouchgateError("the request failed inside", remedy="see the control plane's log")
