"""Prompts of a task: a form with named places, what stands there, and the row of a table that they make."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from string import Formatter

from scrub.data.prompts.names import ANSWER, CLEAN, CORRUPTED, POSITIONS, WRONG, Row
from scrub.data.tasks.lexicon import Lexicon


@dataclass(frozen=True)
class Text:
    """A text, and where in it each named place begins and ends, in characters."""

    text: str
    places: Mapping[str, tuple[int, int]]

    @classmethod
    def of(cls, form: str, words: Mapping[str, str]) -> Text:
        """Fill a form: `Text.of("for{name} in", {"name": " x"})` is "for x in", with `name` from 3 to 5.

        A place has the blank in front of its word, which belongs to the word's token. One whose name begins with _
        gives no position a name.
        """
        text, places = "", {}
        for literal, name, _, _ in Formatter().parse(form):
            text += literal
            if name is not None:
                start, text = len(text), text + words[name]
                places[name] = start, len(text)
        return cls(text, places)

    def positions(self, lexicon: Lexicon, loose: Collection[str]) -> tuple[int, dict[str, int]] | None:
        """Count the tokens, and find the one at which each place ends.

        None where a token goes on over the end of a place, or a word that isn't `loose` is not one token there. The
        blank in front of it may belong to a token before, of several blanks: so the token may be another than that as
        which the word was looked up.
        """
        cuts = [cut for start, end in self.places.values() for cut in (start, start + (self.text[start] == " "), end)]
        whole, *ids = lexicon.ids([self.text, *(self.text[:cut] for cut in cuts)])
        found: dict[str, int] = {}
        for at, (name, place) in enumerate(self.places.items()):
            *before, end = ids[3 * at : 3 * at + 3]
            one = end[:-1] in before and lexicon.spells(end[-1], self.text[slice(*place)])
            if whole[: len(end)] != end or not (name in loose or one):
                return None
            found[name] = len(end) - 1
        return len(whole), {name: at for name, at in found.items() if not name.startswith("_")}


@dataclass(frozen=True)
class Prompt:
    """A clean and a corrupted prompt, and what is right and wrong behind the clean one: words that were looked up."""

    clean: Text
    corrupted: Text
    right: Sequence[str]
    wrong: Sequence[str]

    def row(self, lexicon: Lexicon, loose: Collection[str]) -> Row | None:
        """Make the row of a table, with the positions by name.

        None where the tokenizer doesn't cut both prompts alike, and where it wouldn't write each of the words behind
        the clean one as the token that the word has: a model that reads as it was trained never meets that token there.
        """
        found, other = (each.positions(lexicon, loose) for each in (self.clean, self.corrupted))
        words = [*self.right, *self.wrong]
        if found is None or found != other or not (self.right and self.wrong):
            return None
        if lexicon.behind(self.clean.text, words) != words:
            return None
        return {
            CLEAN: self.clean.text,
            CORRUPTED: self.corrupted.text,
            ANSWER: [lexicon.tokens[word] for word in self.right],
            WRONG: [lexicon.tokens[word] for word in self.wrong],
            POSITIONS: found[1],
        }
