"""One zone's service, data and keys in a small server: whatever is asked for is answered with a word that only this server knows.

python zones_server.py --word WORD (--fd N [--allow-uid U] | --tcp HOST:PORT)
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "examples" / "digits"))

import http_serving


def main() -> None:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser(prog="zones_server")
    parser.add_argument("--word", required=True)
    http_serving.add_listen_options(parser)
    options = parser.parse_args()

    async def answer(request: http_serving.Request) -> http_serving.Response:
        await asyncio.sleep(0)
        return http_serving.json_response(200, {"word": options.word, "path": request.path})

    http_serving.run(answer, options, name="zone server")


if __name__ == "__main__":
    main()
