"""The console's files, from the wheel: plain HTML, CSS and ES modules, nothing fetched from elsewhere and nothing built.

Rules
1. The pages are the same for everybody and hold no data; a page asks the API, and draws with text nodes only (Trusted Types forbid the rest).
2. Files are listed at start; a path is looked up among them, never joined to a folder.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from vouchgate.vocabulary.errors import NotFound

FOLDER = Path(__file__).parent / "files"
MEDIA_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}


class _File:
    def __init__(self, path: Path) -> None:
        self.body = path.read_bytes()
        self.media_type = MEDIA_TYPES[path.suffix]
        self.etag = f'"{hashlib.sha256(self.body).hexdigest()[:32]}"'

    def answer(self, request: Request) -> Response:
        if request.headers.get("if-none-match") == self.etag:
            return Response(status_code=304, headers={"etag": self.etag})
        return Response(self.body, media_type=self.media_type, headers={"etag": self.etag})


def console_routes() -> list[BaseRoute]:
    """`/`, `/login`, `/login/callback` (the same page: it hands in what a provider's redirect carried) and `/assets/<file>`."""
    files = {path.name: _File(path) for path in sorted(FOLDER.iterdir()) if path.suffix in MEDIA_TYPES}

    async def asset(request: Request) -> Response:
        file = files.get(request.path_params["name"])
        if file is None or file.media_type.startswith("text/html"):
            raise NotFound("there is no such file", remedy="open /")
        return file.answer(request)

    async def page(request: Request) -> Response:
        return files["console.html" if request.url.path == "/" else "login.html"].answer(request)

    return [
        Route("/", page, methods=["GET"]),
        Route("/login", page, methods=["GET"]),
        Route("/login/callback", page, methods=["GET"]),
        Route("/assets/{name}", asset, methods=["GET"]),
    ]
