"""The right and the wrong answers of prompts, as tokens: by their texts or ids, by EAP-IG's ids, or by its years."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from scrub.data.columns import as_ids
from scrub.data.prompts.layout import Layout, missing, whole
from scrub.data.prompts.names import COMPLETION, LABEL, RIGHT_ID, WRONG_ID, Row
from scrub.data.prompts.prompts import token_text
from scrub.data.reading import check_vocabulary
from scrub.data.windows import Ids, counted
from scrub.text.encoding import behind, encoded
from scrub.text.errors import ScrubError
from scrub.text.wording import few, short

Tokens = list[int]
YEARS = 100  # of a century: the endings of a year


@dataclass(frozen=True)
class Encoder:
    """What makes tokens of the texts of answers, each once."""

    tokenizer: Tokenizer | None
    vocab_size: int
    known: dict[str, Tokens] = field(default_factory=dict)  # texts that were encoded

    def tokens(self, text: str, what: str) -> Tokens:
        """Encode a text: `Encoder(tokenizer, 97).tokens(" Mary", "'answer' of row 0")`.

        Raises ScrubError, which says `what` holds it, without a tokenizer, and for a text that can't be written.
        """
        if text not in self.known:
            if self.tokenizer is None:
                raise ScrubError(f"{what} has {short(text)}, but the model has no tokenizer: give token ids")
            try:
                text.encode()
            except UnicodeEncodeError:
                raise ScrubError(f"{what} holds half a character: mend it, or leave it out") from None
            self.known[text] = encoded(self.tokenizer, [text], self.vocab_size)[0]
        return self.known[text]


def completion(encoder: Encoder, row: Row, here: str, prompt: str, own: Ids) -> tuple[Tokens, bool]:
    """Read what is right behind a prompt of tokens `own`, a text or ids, and whether it is tokenized as it is there.

    `completion(encoder, row, "row 0 of mine", "a b", ids)`: see :func:`scrub.text.encoding.behind`. Raises ScrubError,
    which names the row, where it has none, and for what isn't the model's.
    """
    value, nothing = row.get(COMPLETION), f"{here} has no {COMPLETION}: give every row one, or leave the column out"
    if missing(value):
        raise ScrubError(nothing)
    if isinstance(value, str):
        what = f"'{COMPLETION}' of {here}"
        encoder.tokens(value, what)  # which says what is wrong with it
        tokens, there = behind(lambda text: encoder.tokens(text, what), prompt, own, value)
    else:
        ids = as_ids(value, COMPLETION, here)
        check_vocabulary(ids, here, encoder.vocab_size)
        tokens, there = [int(token) for token in ids.ravel()], True
    if not tokens:
        raise ScrubError(nothing)
    return tokens, there


@dataclass(frozen=True)
class Answers:
    """How the answers of a row are read, by the columns of its table. `called` names its columns of right and wrong."""

    encoder: Encoder
    layout: Layout

    @property
    def tokenizer(self) -> Tokenizer | None:
        """The model's tokenizer, if it has one."""
        return self.encoder.tokenizer

    @property
    def called(self) -> tuple[str | None, str | None]:
        """The columns of the right and of the wrong answers."""
        if self.layout.by_id:
            return RIGHT_ID, WRONG_ID
        return (LABEL, LABEL) if self.layout.by_year else (self.layout.answer, self.layout.wrong)

    def of(self, row: Row, text: str, last: int | None, here: str) -> tuple[Tokens, Tokens]:
        """Read the right and the wrong tokens behind a prompt of this text; `last` is the right one without a column.

        `here` names the row. Raises ScrubError, which names it, for a row without answers, for one that isn't exactly
        one token, and for one that is right and wrong.
        """
        right_column, wrong_column = self.called
        if self.layout.by_year:
            right, wrong = self._years(row.get(LABEL), text, here)
        else:
            right = [last] if last is not None else self._tokens(row.get(str(right_column)), str(right_column), here)
            wrong = [] if wrong_column is None else self._tokens(row.get(wrong_column), wrong_column, here)
        if self.layout.by_id:
            for column, tokens in ((RIGHT_ID, right), (WRONG_ID, wrong)):
                self._check_words(tokens, column, text, here)
        if not right:
            raise ScrubError(f"{here} has no {right_column}: give every row one, or leave the column out")
        if both := sorted({*right} & {*wrong}):
            raise ScrubError(f"{self.quoted(both[0])} is both right and wrong in {here}: it can be only one of them")
        return right, wrong

    def quoted(self, token: int) -> str:
        """Quote a token by its text, with its id."""
        name = "" if self.tokenizer is None else f"{token_text(token, self.tokenizer)!r} "
        return f"{name}({token})" if name else f"the token {token}"

    def notes(self, rows: Sequence[Row], right: Sequence[Tokens], wrong: Sequence[Tokens]) -> list[str]:
        """Say what the answers of the first row are, where they are numbers in the data, and which count once."""
        found = []
        first = [value for column in self.called if column for value in _listed(rows[0].get(column))]
        cells = [rows[0].get(column) for column in self.called if column]
        if any(map(whole, first)):
            those = [
                ", not ".join(few([self.quoted(token) for token in each]) for each in (right[0], wrong[0]) if each)
            ]
            found.append(f"the answers are numbers in the data; those of row 0 are {those[0]}")
        elif texts := [each for each in cells if isinstance(each, str) and each.strip().isdecimal()]:
            found.append(f"answers such as {texts[0]!r} are texts, as every cell of a CSV is, and no token ids")
        if twice := sum(
            len({*map(str, given)}) < len(given)
            for row in rows
            for given in (_listed(row.get(column)) for column in self.called if column)
        ):
            found.append(f"{counted(twice, 'list')} of answers name one twice: it counts once")
        return found

    def _tokens(self, value: Any, column: str, here: str) -> Tokens:
        return list(dict.fromkeys(self._token(each, column, here) for each in _listed(value)))

    def _token(self, given: Any, column: str, here: str) -> int:
        if whole(given):
            if not 0 <= int(given) < self.encoder.vocab_size:
                other = ", and the file doesn't say of which tokenizer its ids are" if self.layout.by_id else ""
                raise ScrubError(
                    f"'{column}' of {here} has the token id {given}, but the model's vocabulary has the ids "
                    f"0 to {self.encoder.vocab_size - 1}{other}: give data that were made with the model's tokenizer, "
                    "or texts"
                )
            return int(given)
        if not isinstance(given, str):
            raise ScrubError(f"'{column}' of {here} holds {short(given)}: give a text, a token id, or a list of those")
        return self._one(given, f"'{column}' of {here}")

    def _ending(self, text: str, here: str) -> int:
        """Encode the ending of a year, which must be one token."""
        tokens = self.encoder.tokens(text, f"'{LABEL}' of {here}")
        if len(tokens) != 1 or self._unknown(text, tokens[0]):
            raise ScrubError(
                f"'{LABEL}' of {here} asks for the endings 00 to 99 of a year, but {text!r} is no single token of the "
                "model's: take a model that has them all, or give 'answer' and 'wrong'"
            )
        return tokens[0]

    def _one(self, text: str, what: str) -> int:
        """Encode a text that must be one token, or, where a layout says so, begin with one."""
        tokens = self.encoder.tokens(text, what)
        if len(tokens) == 1 and not self._unknown(text, tokens[0]):
            return tokens[0]
        if len(tokens) > 1 and self.layout.by_first and self._begins(text, tokens[0]):
            return tokens[0]
        for near, is_so in ((f" {text}", "with a blank in front"), (text.strip(), "without blanks")):
            if (
                near != text
                and len(found := self.encoder.tokens(near, what)) == 1
                and not self._unknown(near, found[0])
            ):
                advice = f"{near!r}, {is_so}, is one"
                break
        else:
            advice = "give the text of one, with the blank in front if it has one, or a token id"
        why = "no token that the model knows" if len(tokens) == 1 else counted(len(tokens), "token")
        raise ScrubError(f"{what} has {short(text)}, which is {why}, and an answer is one token: {advice}")

    def _unknown(self, text: str, token: int) -> bool:
        """Tell whether a token doesn't spell a text, as that for all unknown words; a tokenizer may ignore case."""
        return token_text(token, self.tokenizer).strip().casefold() != text.strip().casefold()

    def _begins(self, text: str, token: int) -> bool:
        """Tell whether a token spells the beginning of a text, and more than its blank."""
        spelled = token_text(token, self.tokenizer).strip().casefold()
        return bool(spelled) and text.strip().casefold().startswith(spelled)

    def _check_words(self, tokens: Tokens, column: str, text: str, here: str) -> None:
        """Raise ScrubError unless each token is a word of its prompt, which ids of another tokenizer hardly are."""
        if self.tokenizer is None:
            raise ScrubError(f"'{column}' of {here} can't be checked, as the model has no tokenizer: give 'answer'")
        for token in tokens:
            word = token_text(token, self.tokenizer).strip()
            if not word or re.search(rf"(?<!\w){re.escape(word)}(?!\w)", text) is None:
                raise ScrubError(
                    f"'{column}' of {here} is {self.quoted(token)}, no word of its prompt {short(text)}: the file's "
                    "ids are of another tokenizer than the model's, which it doesn't name: give 'answer' and 'wrong'"
                )

    def _years(self, label: Any, text: str, here: str) -> tuple[Tokens, Tokens]:
        """Take the endings of a year that are larger than the label for right, and the others for wrong."""
        if isinstance(label, str) and re.fullmatch(r"\d{1,2}", label, re.ASCII):
            label = int(label)
        if not whole(label) or not 0 <= label < YEARS:
            raise ScrubError(f"'{LABEL}' of {here} is {short(label)}: give a year's last two digits, or 'answer'")
        if not re.search(rf"{re.escape(text[-2:])}{label:02}(?!\d)", text[:-2]) or not text[-2:].isdecimal():
            raise ScrubError(
                f"'{LABEL}' of {here} is {label}, a year's last two digits, but its prompt {short(text)} has no such "
                "year and ends in no two digits of it: give 'answer' and 'wrong', or call the column something else"
            )
        if label == YEARS - 1:
            raise ScrubError(f"'{LABEL}' of {here} is {label}: no ending of a year is larger, so leave the row out")
        endings = [self._ending(f"{year:02}", here) for year in range(YEARS)]
        return endings[label + 1 :], endings[: label + 1]


def _listed(value: Any) -> list[Any]:
    """List what a cell holds: one, several, or none. Whole numbers are floats where some rows of a table lack them."""
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, list | tuple):
        held = list(value)
    else:
        held = [] if missing(value) or (isinstance(value, str) and value == "") else [value]
    return [int(each) if isinstance(each, float | np.floating) and float(each).is_integer() else each for each in held]
