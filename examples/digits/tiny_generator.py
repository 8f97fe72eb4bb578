"""A word-level Markov chain, trained at start on `corpus.txt`: just enough of a language model to speak a chat protocol."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

_WORD = re.compile(r"[A-Za-z0-9']+|[^\sA-Za-z0-9']")
_NO_SPACE_BEFORE = frozenset(".,;:!?)")


def tokens_of(text: str) -> list[str]:
    """Words and punctuation; what `usage` counts."""
    return _WORD.findall(text)


class Generator:
    """Continues a prompt with words that followed each other in the corpus."""

    def __init__(self, text: str, order: int) -> None:
        self._order = order
        self._words = tokens_of(text)
        self._next: dict[tuple[str, ...], list[str]] = {}
        for length in range(1, order + 1):
            for index in range(len(self._words) - length):
                self._next.setdefault(tuple(self._words[index : index + length]), []).append(self._words[index + length])
        ends = [index for index, word in enumerate(self._words[:-1]) if word == "."]
        self._starts = [self._words[0], *(self._words[index + 1] for index in ends)]

    @classmethod
    def from_file(cls, path: Path, order: int) -> Generator:
        """Train on a file."""
        return cls(path.read_text(encoding="utf-8"), order)

    def generate(self, prompt: Sequence[str], limit: int, seed: int) -> Iterator[str]:
        """At most `limit` pieces of text, each with the space before it; ends at a full stop once the text is long enough to be an answer."""
        chance = random.Random(f"{seed}:{' '.join(prompt[-64:])}")
        known = [word for word in prompt if (word,) in self._next and word[0].isalpha()]
        said = [chance.choice(known[-8:]) if known and chance.random() < 0.5 else chance.choice(self._starts)]
        yield said[0].capitalize()
        while len(said) < limit:
            word = self._following(said, chance)
            yield word if word in _NO_SPACE_BEFORE else f" {word}"
            said.append(word)
            if word == "." and len(said) > 12:
                return

    def _following(self, said: list[str], chance: random.Random) -> str:
        for length in range(min(self._order, len(said)), 0, -1):
            found = self._next.get(tuple(said[-length:]))
            if found:
                return chance.choice(found)
        return chance.choice(self._starts)
