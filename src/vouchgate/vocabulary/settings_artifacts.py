"""[artifacts]: who may read what was imported, straight from the content store."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from vouchgate.vocabulary.wire import Noun

NOBODY, EVERYBODY = "nobody", "everybody"


class ArtifactSettings(Noun, frozen=True, kw_only=True):
    """[artifacts]"""

    readers: Annotated[
        str,
        Meta(
            pattern=r"^[a-z0-9_][a-z0-9_.-]{0,31}$",
            description="Who may read admitted artifacts on this machine by their digests: nobody, everybody, or a unix group's name or number.",
        ),
    ] = NOBODY
