"""Serve OpenAI-compatible chat completions from a tiny local generator, whole or as a stream of server-sent events.

    python examples/digits/chat_server.py --unix /run/chat.sock

Paths: `POST /v1/chat/completions`, `GET /v1/models`, `GET /v1/models/{model}`. Models: `tiny-1` and `tiny-2` (order of the chain). The
text is nonsense made of the example's own sentences; the protocol is whole.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

import http_serving
import msgspec
from http_serving import Request, Response
from tiny_generator import Generator, tokens_of

DEFAULT_TOKENS = 48
MAX_TOKENS = 2_048
"""Pieces of one answer."""
MAX_MESSAGES = 256
CORPUS = Path(__file__).with_name("corpus.txt")
ORDERS = {"tiny-1": 1, "tiny-2": 2}
_FINGERPRINT = "fp_tiny"


class TextPart(msgspec.Struct):
    """A part of a message; only text is understood."""

    type: Literal["text"]
    text: str


class Message(msgspec.Struct):
    """One message of the conversation."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[TextPart] | None = None

    def text(self) -> str:
        """The message's words."""
        return self.content if isinstance(self.content, str) else " ".join(part.text for part in self.content or ())


class StreamOptions(msgspec.Struct):
    """How a stream ends."""

    include_usage: bool = False


class ChatRequest(msgspec.Struct):
    """The members of the request that this server acts on; others are accepted and have no effect, as the API says of unknown hints."""

    model: str
    messages: list[Message]
    stream: bool = False
    stream_options: StreamOptions | None = None
    max_tokens: Annotated[int, msgspec.Meta(ge=1, le=MAX_TOKENS)] | None = None
    max_completion_tokens: Annotated[int, msgspec.Meta(ge=1, le=MAX_TOKENS)] | None = None
    temperature: Annotated[float, msgspec.Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, msgspec.Meta(ge=0, le=1)] | None = None
    n: Annotated[int, msgspec.Meta(ge=1, le=1)] | None = None
    seed: int | None = None
    stop: str | list[str] | None = None

    def limit(self) -> int:
        """Pieces wanted at most."""
        return self.max_completion_tokens or self.max_tokens or DEFAULT_TOKENS

    def stops(self) -> tuple[str, ...]:
        """Texts that end the answer."""
        return tuple(text for text in ([self.stop] if isinstance(self.stop, str) else self.stop or ()) if text)


class Refused(Exception):
    """A request that cannot be answered, in the API's own words."""

    def __init__(self, why: str, *, status: int = 400, param: str | None = None, code: str | None = None) -> None:
        super().__init__(why)
        self.status, self.param, self.code = status, param, code


_decoder = msgspec.json.Decoder(ChatRequest)
_encoder = msgspec.json.Encoder()


class Answer:
    """The pieces of one answer as they are made, and how it ended."""

    def __init__(self, pieces: Iterator[str], limit: int, stops: tuple[str, ...]) -> None:
        self._pieces, self._limit, self._stops = pieces, limit, stops
        self.tokens = 0
        self.finish_reason = "stop"

    def __iter__(self) -> Iterator[str]:
        held = max((len(stop) for stop in self._stops), default=1) - 1
        text = ""
        for piece in self._pieces:
            text += piece
            self.tokens += 1
            cut = min((index for stop in self._stops if (index := text.find(stop)) >= 0), default=-1)
            if cut >= 0:
                if text[:cut]:
                    yield text[:cut]
                return
            ready, text = (text[: len(text) - held], text[len(text) - held :]) if held < len(text) else ("", text)
            if ready:
                yield ready
        if text:
            yield text
        if self.tokens >= self._limit and not piece.endswith("."):
            self.finish_reason = "length"


class Server:
    """Routes of the API."""

    def __init__(self, pace_ms: float) -> None:
        self._models = {name: Generator.from_file(CORPUS, order) for name, order in ORDERS.items()}
        self._pace = pace_ms / 1000
        self._started = int(time.time())
        self._numbers = itertools.count(1)

    def __call__(self, request: Request) -> Response:
        """One answer."""
        try:
            return self._answer(request)
        except Refused as error:
            kind = "invalid_request_error"
            body = {"error": {"message": str(error), "type": kind, "param": error.param, "code": error.code}}
            return Response(status=error.status, body=_encoder.encode(body))

    def _answer(self, request: Request) -> Response:
        path = request.path.split("?", 1)[0]
        allowed = "POST" if path == "/v1/chat/completions" else "GET"
        if path not in {"/v1/chat/completions", "/v1/models"} and not path.startswith("/v1/models/"):
            raise Refused(f"unknown path `{path[:120]}`", status=404, code="unknown_url")
        if request.method != allowed:
            raise Refused(f"`{request.method[:20]}` is not allowed here, use {allowed}", status=405, code="method_not_supported")
        if allowed == "POST":
            return self._complete(request)
        if path == "/v1/models":
            return Response(body=_encoder.encode({"object": "list", "data": [self._card(name) for name in self._models]}))
        return Response(body=_encoder.encode(self._card(path.removeprefix("/v1/models/"))))

    def _card(self, name: str) -> dict[str, Any]:
        self._generator(name)
        return {"id": name, "object": "model", "created": self._started, "owned_by": "example"}

    def _generator(self, name: str) -> Generator:
        generator = self._models.get(name)
        if generator is None:
            raise Refused(f"the model `{name[:80]}` does not exist", status=404, param="model", code="model_not_found")
        return generator

    def _complete(self, request: Request) -> Response:
        asked = _read(request)
        generator = self._generator(asked.model)
        prompt = [word for message in asked.messages for word in tokens_of(message.text())]
        seed = asked.seed if asked.seed is not None else 0 if asked.temperature == 0 else next(self._numbers)
        answer = Answer(generator.generate(prompt, asked.limit(), seed), asked.limit(), asked.stops())
        head = {
            "id": f"chatcmpl-{next(self._numbers):012d}",
            "created": int(time.time()),
            "model": asked.model,
            "system_fingerprint": _FINGERPRINT,
        }
        if asked.stream:
            usage = asked.stream_options is not None and asked.stream_options.include_usage
            chunks = self._stream(head, answer, len(prompt), include_usage=usage)
            return Response(content_type="text/event-stream; charset=utf-8", headers=(("cache-control", "no-store"),), chunks=chunks)
        text = "".join(answer)
        message = {"role": "assistant", "content": text, "refusal": None}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": answer.finish_reason}
        body = {**head, "object": "chat.completion", "choices": [choice], "usage": _usage(len(prompt), answer.tokens)}
        return Response(body=_encoder.encode(body))

    async def _stream(self, head: dict[str, Any], answer: Answer, prompt_tokens: int, *, include_usage: bool) -> AsyncIterator[bytes]:
        """`chat.completion.chunk` events, then `[DONE]`."""

        def event(delta: dict[str, Any], finish: str | None = None) -> bytes:
            body = {
                **head,
                "object": "chat.completion.chunk",
                "choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}],
            }
            return _event(body | ({"usage": None} if include_usage else {}))

        yield event({"role": "assistant", "content": ""})
        for piece in answer:
            await asyncio.sleep(self._pace)
            yield event({"content": piece})
        yield event({}, answer.finish_reason)
        if include_usage:
            usage = _usage(prompt_tokens, answer.tokens)
            yield _event({**head, "object": "chat.completion.chunk", "choices": [], "usage": usage})
        yield b"data: [DONE]\n\n"


def _read(request: Request) -> ChatRequest:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise Refused("send application/json", status=415)
    try:
        asked = _decoder.decode(request.body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Refused(f"the request cannot be read: {str(error)[:200]}") from None
    if not asked.messages or len(asked.messages) > MAX_MESSAGES:
        raise Refused(f"give 1 to {MAX_MESSAGES} messages", param="messages")
    return asked


def _event(body: dict[str, Any]) -> bytes:
    return b"data: " + _encoder.encode(body) + b"\n\n"


def _usage(prompt: int, completion: int) -> dict[str, int]:
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="serve OpenAI-compatible chat completions from a tiny generator")
    parser.add_argument("--pace-ms", type=float, default=20.0, help="wait this long before each piece of a stream")
    http_serving.add_listen_options(parser)
    options = parser.parse_args()
    http_serving.run(Server(options.pace_ms), options, name="chat server")


if __name__ == "__main__":
    main()
