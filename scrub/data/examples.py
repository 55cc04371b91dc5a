"""Examples of a behaviour, wherever they come from.

Text, prompts, pairs of them, fixed rows, and arrays in memory all become one thing: tokens, the positions that are
scored, what is to be predicted there, and the other of each example where it comes with one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped
from tokenizers import Tokenizer

from scrub.data.arrays import mask_of, positions_from, tokens_of
from scrub.data.bigram import Bigram
from scrub.data.choices import ANSWERS, MEASURED, WRONG, Choices, choices_of
from scrub.data.labels import READ_AT, check_labels, labelled, where_read
from scrub.data.positions import forms_of, places_in_templates, places_of, positions_at, templates_of
from scrub.data.repeated import NOWHERE, second_half
from scrub.paths.hashes import hash_array, hash_of
from scrub.text.errors import ScrubError
from scrub.text.spans import END
from scrub.text.wording import at_commit, few, short, with_digest

LABEL = "label"  # the column of the class that is to be predicted
TEXT, PROMPTS, REPEATED, PAIRS = "text", "prompts", "repeated random tokens", "pairs of sequences"
FIRST, TARGET, QUERY = "first", "target", "second"  # the named positions of prompts that repeat: `A B ... A`
FIRST_QUERY = 2  # position of text: what attends from the first two has hardly anything to choose from

Tokens: TypeAlias = Int[np.ndarray, "example position_plus_one"]
Found = TypeVar("Found")
Scored: TypeAlias = Bool[np.ndarray, "example position"]


@dataclass(frozen=True)
class Origin:
    """Origin of text: the folder of its card and whitelist, its tokenizer, and a bigram of other text of it."""

    vocab_size: int
    folder: Path | None = None
    tokenizer: Tokenizer | None = field(default=None, repr=False)
    background: Bigram | None = field(default=None, repr=False)
    masked: bool = False  # whether the data came with the positions that are scored
    width: int | None = None  # symbols in a row, of data that are grids


@dataclass(frozen=True, repr=False)
class Examples:
    """Tokens [example, position + 1], each with the token to predict behind it, and the positions that are scored.

    `Examples.of(np.array([[0, 5, 6, 5, 6]]))` are one, and `Examples(clean, scored, other=corrupted)` pairs.
    `kind` is one of TEXT, PROMPTS, REPEATED and PAIRS; `name` is the data's, or says what prompts are made of. `other`
    are the tokens that each example is paired with, if it comes with some. `positions` has positions by name, one for
    each example; `copied` for each position the earlier one of the token to predict (NOWHERE where there is none);
    `texts` what each example reads.
    A metric may look at other `targets` than the next token: `node("other_target", name="a name")`.
    Examples of several lengths have pads behind them, which nothing that is scored reads: `lengths` are the positions
    that are none, `other_lengths` those of the others. `answers` and `wrong` are the tokens that are right and wrong
    behind the last position of each, NOWHERE where there are fewer; the first answer is the token to
    predict there. Others that are drawn have the form of their examples: see `forms`.
    `rest` are the other rows of the data that these are from: draws of a hypothesis' own are from all. `columns` hold
    what else the data say of each row, these before the rest, for features to look at.
    `documents` numbers what each example is cut from (a file, a row, the first of those that are joined), so that
    examples of one document can be told from independent ones; by default each is one of its own. `within` are the
    positions that may be scored where documents are joined: not those that read or predict what joins them. `begin`
    says what each begins with, and `notes` what was joined, cut, left out and guessed, on the way here.
    `labels` are the class of each, where that is to be predicted and no token: at position 0, where a classifier's
    outputs are read, and nowhere else. Then the model reads pads, and the last column of `tokens` is read by nobody.
    """

    tokens: Tokens
    scored: Scored
    kind: str = TEXT
    name: str = "tokens"
    other: Tokens | None = None
    positions: Mapping[str, Int[np.ndarray, " example"]] = field(default_factory=dict)
    copied: Int[np.ndarray, "example position"] | None = None
    targets: Mapping[str, Int[np.ndarray, "example position"]] = field(default_factory=dict)
    texts: tuple[str, ...] = ()
    other_texts: tuple[str, ...] = ()
    origin: Origin | None = field(default=None, repr=False)
    documents: Int[np.ndarray, " example"] = field(default_factory=lambda: np.zeros(0, np.int64), repr=False)
    within: Scored | None = field(default=None, repr=False)
    begin: str = ""
    commit: str = ""  # on the hub, where the data are from there
    notes: tuple[str, ...] = field(default=(), repr=False)
    lengths: Int[np.ndarray, " example"] | None = None
    other_lengths: Int[np.ndarray, " example"] | None = None
    answers: Int[np.ndarray, "example right"] | None = None
    wrong: Int[np.ndarray, "example false"] | None = None
    completions: Int[np.ndarray, "example known"] | None = None  # all that is right behind each, NOWHERE where it ends
    rest: Int[np.ndarray, "rest position_plus_one"] | None = field(default=None, repr=False)  # that draws may draw too
    columns: Mapping[str, Shaped[np.ndarray, " every"]] = field(default_factory=dict, repr=False)  # of the rest too
    labels: Int[np.ndarray, " example"] | None = None
    numbers: Int[np.ndarray, " example"] | None = None  # of each among those that were read, where some were chosen

    def __post_init__(self) -> None:
        for name, array in (("tokens", self.tokens), ("scored", self.scored), ("other", self.other)):
            if array is not None and not isinstance(array, np.ndarray):
                raise ScrubError(f"the {name} of examples are {type(array).__name__}: give arrays, or use Examples.of")
        if not len(self.documents):
            object.__setattr__(self, "documents", np.arange(len(self.tokens)))
        if len(self.documents) != len(self.tokens):
            raise ScrubError(
                f"{len(self.tokens)} examples have the documents of {len(self.documents)}: give each a number"
            )
        if self.labels is not None:
            check_labels(self, self.labels)
            if (self.tokens[:, -1] != self.labels).any():  # they stand behind all that is read
                object.__setattr__(self, "tokens", np.column_stack([self.tokens[:, :-1], self.labels]))
            at = where_read(self.scored.shape)
            object.__setattr__(self, "within", at if self.within is None else self.within & at)

    def __len__(self) -> int:
        return len(self.tokens)

    def __repr__(self) -> str:
        """Say in one line how many of what they are, and the first that is a text."""
        first = f", as {short(self.texts[0])}" if self.texts else ""
        what = f"{len(self):,} of {self.kind}, {self.name}{', with others' * (self.other is not None)}{first}"
        what += "" if self.labels is None else f", with labels of {len(np.unique(self.labels))} classes"
        return f"<Examples {what}: {self.sizes} positions each, {int(self.counts.sum()):,} scored>"

    @property
    def inputs(self) -> Int[np.ndarray, "example position"]:
        """The tokens that the model reads."""
        return np.asarray(self.tokens[:, :-1])

    @property
    def context(self) -> int:
        """The number of positions of each example."""
        return int(self.scored.shape[1])

    @property
    def sizes(self) -> str:
        """How many positions each has: one number, or the fewest and the most."""
        return sizes_said(*self.extent)

    @property
    def extent(self) -> tuple[int, int]:
        """The fewest and the most positions that each has."""
        return (self.context,) * 2 if self.lengths is None else (int(self.lengths.min()), int(self.lengths.max()))

    @cached_property
    def counts(self) -> Int[np.ndarray, " example"]:
        """The number of scored positions of each example."""
        return np.asarray(self.scored.sum(1))

    @property
    def expected(self) -> Int[np.ndarray, " example"]:
        """The token to predict at the end of each example: of prompts, the answer. With labels, the class."""
        return np.asarray(self.tokens[np.arange(len(self)), self.ends + 1]) if self.labels is None else self.labels

    @property
    def following(self) -> Int[np.ndarray, "example position"]:
        """What is to be predicted at each position: the next token, or with labels the class."""
        if self.labels is None:
            return np.asarray(self.tokens[:, 1:])
        return np.broadcast_to(self.labels[:, None], self.scored.shape)

    @property
    def several_answers(self) -> bool:
        """Whether any example comes with several tokens that are right."""
        return self.answers is not None and bool(((self.answers != NOWHERE).sum(1) > 1).any())

    @property
    def ends(self) -> Int[np.ndarray, " example"]:
        """The last position of each example that is no pad."""
        return np.full(len(self), self.context - 1) if self.lengths is None else np.asarray(self.lengths - 1)

    @property
    def real(self) -> Bool[np.ndarray, "example position"]:
        """The positions that are no pads."""
        return np.asarray(np.arange(self.context)[None] <= self.ends[:, None])

    @property
    def real_in_other(self) -> Bool[np.ndarray, "example position"]:
        """The positions of each example's other that are no pads."""
        if self.other_lengths is None:
            return self.real if self.other is None else np.ones_like(self.scored)
        return np.asarray(np.arange(self.context)[None] < self.other_lengths[:, None])

    def at(self, text: str) -> Bool[np.ndarray, "example position"]:
        """Find the positions of each example that some spans mean: `at("S2")`, `at("4..7, -1")`.

        Raises ScrubError for a name that the examples don't give, an example that lacks it, or no such position.
        """
        return self._once(f"at {text}", lambda: positions_at(self, text))

    def choices(self, of: str, wanting: str = MEASURED) -> Choices:
        """List the tokens that a metric looks at, at each position: see :func:`scrub.data.choices.choices_of`."""
        return self._once(f"choices {of}", lambda: choices_of(self, of, wanting))

    def _once(self, what: str, find: Callable[[], Found]) -> Found:
        """Find something out once: every batch asks for it."""
        if what not in self._known:
            self._known[what] = find()
        found: Found = self._known[what]
        return found

    @cached_property
    def _known(self) -> dict[str, Any]:
        return {}

    @cached_property
    def places(self) -> Int[np.ndarray, "example position"]:
        """The numbers of positions, by name where they have one: see :func:`scrub.data.positions.places_of`."""
        return places_of(self)

    @cached_property
    def templates(self) -> Int[np.ndarray, " example"]:
        """The template of each: see :func:`scrub.data.positions.templates_of`."""
        return templates_of(self)

    def check_templates(self) -> None:
        """Raise ScrubError for running text, which has no templates, as prompts and what names positions have."""
        if self.kind == TEXT and not self.positions:
            raise ScrubError(
                f"the data {short(self.name)} are running text, and a mean by template is over prompts of one: "
                "give prompts, or take --other mean"
            )

    @cached_property
    def _places_in_templates(self) -> Int[np.ndarray, "example position"]:
        return places_in_templates(self)

    def places_by(self, what: str) -> Int[np.ndarray, "example position"]:
        """Give the numbers of positions by "name" where they have one, or those of each "template"."""
        return self.places if what == "name" else self._places_in_templates

    @cached_property
    def forms(self) -> Int[np.ndarray, " example"]:
        """What examples share with the others that are drawn for them: see :func:`scrub.data.positions.forms_of`."""
        return forms_of(self)

    def check_names(self, wanted: Iterable[str]) -> None:
        """Raise ScrubError unless every example has positions of these names, which both of a pair then share."""
        for name in wanted:
            if name not in self.positions:
                raise ScrubError(
                    f"the data give no position the name {name!r}: the names are "
                    f"{few([*self.positions, END])}, where 'end' is the last position"
                )
            if (lacking := np.flatnonzero(self.positions[name] == NOWHERE)).size:
                raise ScrubError(
                    f"{self.row(lacking[0])} has no position {name!r}{self.as_text(lacking[0])}: give every row one, "
                    "or leave those out that have none"
                )

    @property
    def aligned(self) -> bool:
        """Whether every example is as long as the other that it comes with."""
        return self.other_lengths is None or bool((self.other_lengths == self.ends + 1).all())

    def check_aligned(self, why: str) -> None:
        """Raise ScrubError unless every example is as long as the other that it comes with; `why` they must be."""
        if self.other is not None and self.other_lengths is not None:
            ends = self.ends + 1
            if (apart := np.flatnonzero(self.other_lengths != ends)).size:
                which = apart[0]
                raise ScrubError(
                    f"{self.row(which)} has {ends[which]} tokens and its other {self.other_lengths[which]}"
                    f"{self.as_text(which)}: {why}, so give pairs of one length"
                )

    def as_running(self, what: str, classes: bool = False) -> Examples:
        """Give running text as it is. Raises ScrubError for prompts, which are none: `what` needs it, says the line.

        For rows with labels too, unless it is of `classes` as well as of next tokens.
        """
        labelled = self.labels is not None and not classes
        if labelled or self.kind == PROMPTS:
            are = "rows with labels" if labelled else PROMPTS
            raise ScrubError(f"the data {short(self.name)} are {are}, and {what} needs running text: give --data text")
        return self

    def row(self, which: int) -> str:
        """Name one of them: of prompts, the row that it was read from."""
        number = which if self.numbers is None else self.numbers[which]
        return f"row {number} of {short(self.name, quoted=False)}" if self.kind == PROMPTS else f"example {number}"

    def as_text(self, which: int) -> str:
        """Quote one of them, where they have texts."""
        return f" ({short(self.texts[which])})" if self.texts else ""

    @property
    def changed(self) -> Bool[np.ndarray, "example position"]:
        """The positions where each example differs from its other. Raises ScrubError if it comes with none."""
        self.check_aligned("the positions of both are compared")
        other = self.swapped().tokens if self.other is None else self.other  # which says that there is none
        return np.asarray((self.inputs != other[:, :-1]) & self.real)

    @cached_property
    def digest(self) -> str:
        """The hash of everything that a number depends on."""
        return hash_of([self.tokens_hash, hash_array(self.scored)], {})

    @property
    def _besides(self) -> dict[str, object]:
        """The hashes of what text doesn't have."""
        arrays = {
            "lengths": self.lengths,
            "other lengths": self.other_lengths,
            ANSWERS: self.answers,
            WRONG: self.wrong,
            "completions": self.completions,
            "labels": self.labels,
            "templates": self.documents if self.kind == PROMPTS and self._in_templates else None,
            **{f"position {name}": at for name, at in self.positions.items()},
            **{f"target {name}": array for name, array in self.targets.items()},
        }
        return {name: hash_array(array) for name, array in arrays.items() if array is not None}

    @property
    def _in_templates(self) -> bool:
        return bool((self.documents != np.arange(len(self))).any())

    @cached_property
    def tokens_hash(self) -> str:
        """The hash of the tokens, and of whatever comes with them but the positions that are scored."""
        own, more = hash_array(self.tokens), self._besides
        if self.other is None and not more:
            return own
        return hash_of(own, "" if self.other is None else hash_array(self.other), more)

    @property
    def called(self) -> str:
        """The name of the data, with the first digits of the digest."""
        return with_digest(at_commit(self.name, self.commit), self.digest)

    @property
    def heading(self) -> str:
        """Which data they are, how many, how long, and what they begin with, on one line."""
        what = (
            self.kind if self.kind == PROMPTS and len(self) > 1 else "prompt" if self.kind == PROMPTS else "sequences"
        )
        return f"{self.called}: {len(self):,} {what} of {self.sizes} positions {self.begin}".rstrip()

    @property
    def about(self) -> dict[str, str | list[str]]:
        """What JSON says of the data, under the names that a result has them."""
        said: dict[str, str | list[str]] = {"data_commit": self.commit, "begin": self.begin, "notes": list(self.notes)}
        return {"data": self.name, "digest": self.digest, **{name: value for name, value in said.items() if value}}

    @classmethod
    def of(cls, on: Examples | Any, scored: Any = None, labels: Any = None) -> Examples:
        """Make examples of tokens in memory: an array or tensor [example, position + 1], of text.

        `scored` is a mask [example, position]; without it, every position from FIRST_QUERY on is scored. Examples stay
        as they are. With `labels`, the class of each, tokens are [example, position], all of which are read:
        `Examples.of([[0, 3, 4, 2]], labels=[1])`. Raises ScrubError for what is no such array.
        """
        if labels is not None:
            tokens, classes = labelled(None if isinstance(on, Examples) else on, labels)
            at = where_read(tokens[:, 1:].shape) if scored is None else mask_of(scored, tokens)
            return cls(tokens, at, labels=classes)
        if isinstance(on, Examples):
            return on if scored is None else replace(on, scored=mask_of(scored, on.tokens))
        tokens = tokens_of(on)
        return cls(tokens, positions_from(FIRST_QUERY, tokens) if scored is None else mask_of(scored, tokens))

    @classmethod
    def of_repeated(cls, tokens: Tokens) -> Examples:
        """Score the second half of repeated random tokens (:func:`scrub.data.repeated.repeated_tokens`)."""
        copied = second_half(tokens)
        return cls(tokens, copied != NOWHERE, REPEATED, copied=copied)

    def later(self, first_query: int = FIRST_QUERY) -> Examples:
        """Score the same examples from a position on."""
        return self.scored_at(positions_from(first_query, self.tokens))

    def scored_at(self, scored: Scored) -> Examples:
        """Score other positions of the same examples, as far as they may be."""
        return replace(self, scored=scored if self.within is None else scored & self.within)

    def some(self, members: Int[np.ndarray, " member"]) -> Examples:
        """Choose some of the examples, by their numbers."""

        def chosen(mapping: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
            return {name: array[members] for name, array in mapping.items()}

        return replace(
            self,
            tokens=self.tokens[members],
            scored=self.scored[members],
            other=None if self.other is None else self.other[members],
            positions=chosen(self.positions),
            copied=None if self.copied is None else self.copied[members],
            documents=self.documents[members],
            within=None if self.within is None else self.within[members],
            targets=chosen(self.targets),
            texts=tuple(self.texts[at] for at in members) if self.texts else (),
            other_texts=tuple(self.other_texts[at] for at in members) if self.other_texts else (),
            lengths=None if self.lengths is None else self.lengths[members],
            other_lengths=None if self.other_lengths is None else self.other_lengths[members],
            answers=None if self.answers is None else self.answers[members],
            wrong=None if self.wrong is None else self.wrong[members],
            completions=None if self.completions is None else self.completions[members],
            columns={
                name: np.concatenate([array[members], array[len(self) :]]) for name, array in self.columns.items()
            },
            labels=None if self.labels is None else self.labels[members],
            numbers=self._numbered(members),
        )

    def _numbered(self, members: Int[np.ndarray, " member"]) -> Int[np.ndarray, " member"] | None:
        """Number some of them as they were read; None where these are the first."""
        found = np.asarray(members) if self.numbers is None else self.numbers[members]
        return None if np.array_equal(found, np.arange(len(found))) else found

    def first(self, count: int) -> Examples:
        """Choose the first ones; the others are then of the rest of the data."""
        rest = self.tokens[count:] if self.rest is None else np.concatenate([self.tokens[count:], self.rest])
        # other lengths, named positions and others of their own are of examples alone
        return replace(self.some(np.arange(count)), rest=rest if self._plain else None, columns=self.columns)

    @property
    def _plain(self) -> bool:
        """Whether tokens are all that there is of a row, and what columns say of it."""
        return self.other is None and self.lengths is None and not self.positions and self.kind != PROMPTS

    @cached_property
    def every(self) -> Examples:
        """All rows of the data that are known: these, and behind them the rest."""
        if self.rest is None:
            return self
        tokens = np.concatenate([self.tokens, self.rest])
        scored, labels = np.zeros(tokens[:, 1:].shape, dtype=bool), None
        if self.labels is not None:
            labels = np.array(tokens[:, -1], dtype=np.int64)  # which stand behind all that is read
            scored[:, READ_AT] = True
        return Examples(tokens, scored, self.kind, self.name, columns=self.columns, labels=labels)

    @property
    def said(self) -> Mapping[str, Shaped[np.ndarray, " every"]]:
        """What the data say of each row beside its tokens: columns, and its label."""
        own = {name: values[: len(self)] for name, values in self.columns.items()}
        return own if self.labels is None else {**own, LABEL: self.labels}

    @property
    def pool_hash(self) -> str:
        """The hash of all that draws of hypotheses are from, and of what columns say of it."""
        return hash_of(hash_array(self.every.tokens), {name: hash_array(of) for name, of in self.columns.items()})

    def followed_by(self, others: Examples) -> Examples:
        """Put other prompts of the same length behind these."""
        return replace(
            self,
            tokens=np.concatenate([self.tokens, others.tokens]),
            rest=None,
            columns={},
            scored=np.concatenate([self.scored, others.scored]),
            positions={name: np.concatenate([at, others.positions[name]]) for name, at in self.positions.items()},
            copied=None
            if self.copied is None or others.copied is None
            else np.concatenate([self.copied, others.copied]),
            texts=(*self.texts, *others.texts),
            documents=np.concatenate([self.documents, others.documents + self.documents.max(initial=-1) + 1]),
            within=None,  # prompts are each one text
            numbers=None,
            labels=None
            if self.labels is None or others.labels is None
            else np.concatenate([self.labels, others.labels]),
        )

    def swapped(self) -> Examples:
        """Swap examples and their others, as clean and corrupted prompts. Raises ScrubError if they come with none."""
        if self.other is None:
            if self.kind == PROMPTS:
                name = short(self.name, quoted=False)
                raise ScrubError(f"{name} has no column 'corrupted', and its prompts no others: give pairs")
            raise ScrubError(f"the {self.kind} come without others: give pairs")
        if self.labels is not None:
            raise ScrubError("the labels are those of the examples, and nothing says the class of their others")
        self.check_aligned("the positions of both are swapped")
        alone = replace(self, rest=None, columns={})
        return replace(alone, tokens=self.other, other=self.tokens, texts=self.other_texts, other_texts=self.texts)

    @property
    def has_bigram(self) -> bool:
        """Whether a bigram predicts what is to be predicted: the next token of running text, and no class."""
        return self.kind == TEXT and self.labels is None

    def bigram_losses(self, vocab_size: int) -> Float[np.ndarray, "example position"]:
        """Compute the loss of a bigram predictor at each position, in nats a token; no model takes part.

        Its statistics are those of other text of the same data where there is some (for stdlib, the training side).
        Otherwise they are of these examples: each half is predicted from the other half.
        """
        if self.origin is not None and self.origin.background is not None:
            return np.asarray(self.origin.background.losses(self.tokens))
        losses = np.empty((len(self), self.context))
        for half in (0, 1):
            there = None if self.lengths is None else self.real[1 - half :: 2]  # no pad is counted
            losses[half::2] = Bigram.fit(self.tokens[1 - half :: 2], vocab_size, there).losses(self.tokens[half::2])
        return losses


def sizes_said(fewest: int, most: int) -> str:
    """Say how many positions examples have: `sizes_said(7, 11)` is "7 to 11"."""
    return str(most) if fewest == most else f"{fewest} to {most}"
