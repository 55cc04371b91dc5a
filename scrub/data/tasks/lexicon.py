"""Words of a task that a tokenizer has as single tokens: they are looked up, and what it lacks is counted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from tokenizers import Tokenizer

from scrub.text.encoding import encoded
from scrub.text.errors import ScrubError

_WORD, _BRACKET = "a", "("  # behind which words are looked up, with a blank between and without


@dataclass(frozen=True)
class Lexicon:
    """What a tokenizer of so many tokens has of the words of a task; `notes` count those that it lacks.

    `tokens` are those of the words that were looked up, with their blanks: what a text is alone may be other tokens.
    """

    task: str
    tokenizer: Tokenizer
    vocab_size: int
    notes: list[str] = field(default_factory=list)
    tokens: dict[str, int] = field(default_factory=dict)

    def words(self, words: Sequence[str], what: str, least: int, blank: bool = True) -> list[str]:
        """Keep the words that are one token each, and their `blank`: `lexicon.words(["Mary"], "first names", 1)`.

        That is behind another word, or, without a blank, behind a bracket, as the last digits of a year stand alone:
        it gives " Mary", or "45". Raises ScrubError, which counts them, where fewer than `least` are.
        """
        before = _WORD if blank else _BRACKET
        forms = [f" {word}" if blank else word for word in words]
        (begun,) = self.ids([before])
        for form, ids in zip(forms, self.ids([before + form for form in forms]), strict=True):
            if len(ids) == len(begun) + 1 and ids[:-1] == begun and self.spells(ids[-1], form):
                self.tokens[form] = ids[-1]
        found = [form for form in forms if form in self.tokens]
        behind = " behind a blank" if blank else ""
        if len(found) < least:
            needed = f"one of the {what} as one token" if least == 1 else f"{least} {what} that are one token each"
            raise ScrubError(
                f"{self.task} needs {needed}{behind}, and the model's tokenizer has {len(found)} of {len(words)}: "
                "take another model, or another task"
            )
        if len(found) < len(words):
            are, these = ("is one token", "it") if len(found) == 1 else ("are one token each", "these")
            said = f"{len(found)} of {len(words)} {what} {are} of the model's{behind}"
            self.notes.append(f"{said}: prompts are made of {these}")
        return found

    def behind(self, text: str, words: Sequence[str]) -> list[str]:
        """Keep the words that were looked up and stand behind a text as the same tokens, the text being cut as before.

        `lexicon.behind("Mary gave it to", [" Mary"])`.
        """
        whole, *each = self.ids([text, *(text + word for word in words)])
        return [word for word, ids in zip(words, each, strict=True) if ids == [*whole, self.tokens[word]]]

    def ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Encode texts, exactly as they are."""
        return encoded(self.tokenizer, texts, self.vocab_size)

    def spells(self, token: int, form: str) -> bool:
        """Tell whether a token spells a word, and doesn't stand for everything unknown; a tokenizer may ignore case."""
        text = str(self.tokenizer.decode([token], skip_special_tokens=False))
        return text.strip().casefold() == form.strip().casefold()
