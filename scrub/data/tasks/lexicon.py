"""Words of a task that a tokenizer has as single tokens: they are looked up, and what it lacks is counted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from tokenizers import Tokenizer

from scrub.data.windows import counted
from scrub.text.encoding import encoded
from scrub.text.errors import ScrubError

_BEFORE = "a"  # a word is looked up behind another, as it stands in a prompt


@dataclass(frozen=True)
class Lexicon:
    """What a tokenizer of so many tokens has of the words of a task; `notes` count those that it lacks."""

    task: str
    tokenizer: Tokenizer
    vocab_size: int
    notes: list[str] = field(default_factory=list)

    def words(self, words: Sequence[str], what: str, least: int, blank: bool = True) -> list[str]:
        """Keep the words that are one token each: `lexicon.words(["Mary", "Ann"], "first names", 3)`.

        That is behind another word and a `blank`, or, without one, by themselves, as the last digits of a year are.
        Raises ScrubError, which counts them, where fewer than `least` are.
        """
        before = self.ids([_BEFORE])[0] if blank else []
        texts = [f"{_BEFORE} {word}" if blank else word for word in words]
        found = [
            word
            for word, ids in zip(words, self.ids(texts), strict=True)
            if ids[:-1] == before and self._spells(ids[-1], word)
        ]
        if len(found) < least:
            raise ScrubError(
                f"{self.task} needs {least} {what} that are one token each, and the model's tokenizer has {len(found)} "
                f"of {len(words)}: take another model, or another task"
            )
        if len(found) < len(words):
            said = f"{len(found)} of {counted(len(words), what.removesuffix('s'))} are one token each of the model's"
            self.notes.append(f"{said}: prompts are made of these")
        return found

    def ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Encode texts, exactly as they are."""
        return encoded(self.tokenizer, texts, self.vocab_size)

    def _spells(self, token: int, word: str) -> bool:
        """Tell whether a token spells a word, and doesn't stand for everything unknown; a tokenizer may ignore case."""
        return str(self.tokenizer.decode([token], skip_special_tokens=False)).strip().casefold() == word.casefold()
