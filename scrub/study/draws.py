"""Draw the donors whose tokens stand in for each example's: resampling, freely or among those that agree with it.

The seed and the number of the draw determine all of it, never the batch size. Draws that a hypothesis declares are from
all rows of the data, of which the examples are some, each as often as it is there: uniformly among those of the class
of x's row, or of the row of the draw that it is of. What is uniform hangs on the seed and on the names and features of
a draw and those above it: the same draws, in another hypothesis, are the same rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from types import MappingProxyType

import numpy as np
from jaxtyping import Bool, Float, Int
from tokenizers import Tokenizer

from scrub.data.examples import Examples, Tokens
from scrub.data.positions import numbered
from scrub.graph.node import Node, walk
from scrub.paths.gathered import draws
from scrub.paths.rules import PLACED
from scrub.paths.sources import Draw, Drawn, Rows, X, Y, ordered
from scrub.text.errors import GateError, ScrubError
from scrub.text.fields import asks_for, theirs
from scrub.text.spans import names
from scrub.text.wording import few

# What a `like FEATURE` source agrees on: classes [sequence] or [sequence, position] of input tokens.
Feature = Callable[[Int[np.ndarray, "sequence position"], Tokenizer | None], np.ndarray]

Places = Int[np.ndarray, "sequence place"]  # at which position the row stands that was drawn for each position
AGREEING = 16  # examples whose draws are looked at again
WORTH_SHARING = 0.05  # of all positions
BLOCK_SEQUENCES = 32  # donors are drawn among this many sequences, so that a batch computes few of their patterns


def generator(seed: int, draw: int, purpose: str) -> np.random.Generator:
    """Make the random generator for one purpose of one draw."""
    return np.random.default_rng([seed, draw, *purpose.encode()])


def pair(sequences: int, seed: int, draw: int) -> Int[np.ndarray, " sequence"]:
    """Pair every sequence with the next one on a random cycle through all, so never with itself."""
    return pair_within(np.zeros(sequences, dtype=np.int64), generator(seed, draw, "pairs"))


def pair_within(classes: Int[np.ndarray, " sequence"], rng: np.random.Generator) -> Int[np.ndarray, " sequence"]:
    """Pair every sequence with the next one on a random cycle through its class; alone in it, with itself."""
    other = np.arange(len(classes))
    for class_ in np.unique(classes):
        cycle = rng.permutation(np.flatnonzero(classes == class_))
        other[cycle] = np.roll(cycle, -1)
    return other


def blocks(sequences: int, seed: int, draw: int) -> list[Int[np.ndarray, " member"]]:
    """Partition the sequences at random into blocks of BLOCK_SEQUENCES; the last may be smaller."""
    order = generator(seed, draw, "blocks").permutation(sequences)
    return [order[start : start + BLOCK_SEQUENCES] for start in range(0, sequences, BLOCK_SEQUENCES)]


def row_donors(
    classes: Int[np.ndarray, "sequence position"], seed: int, draw: int, feature: str
) -> Int[np.ndarray, "sequence position"]:
    """Draw a donor for every position of every sequence: another sequence of the same class at that position.

    Drawn uniformly among those of its block; where none of them agrees, among all sequences; where no
    other agrees at all, the sequence itself is the only draw there is.
    """
    count, length = classes.shape
    rng = generator(seed, draw, f"donors {feature}")
    donors = np.empty((count, length), dtype=np.int64)
    for members in blocks(count, seed, draw):
        here = classes[members]
        agrees = (here[:, None] == here[None]) & ~np.eye(len(members), dtype=bool)[:, :, None]
        # the largest of independent uniform numbers is a uniform draw among those that agree
        lot = np.where(agrees, rng.random(agrees.shape), -1.0)
        donors[members] = members[lot.argmax(1)]
        for row, position in zip(*np.nonzero(~agrees.any(1)), strict=True):
            own = members[row]
            everywhere = np.flatnonzero(classes[:, position] == classes[own, position])
            others = everywhere[everywhere != own]
            donors[own, position] = rng.choice(others) if len(others) else own
    return donors


def sequence_donors(
    classes: Int[np.ndarray, " sequence"], seed: int, draw: int, feature: str
) -> Int[np.ndarray, " sequence"]:
    """Draw a donor of the same class for every sequence, each the donor of one; alone in its class, itself."""
    return pair_within(classes, generator(seed, draw, f"donors {feature}"))


@dataclass(frozen=True)
class Pairing:
    """One draw: which row of the pool stands in for each example, for every source.

    The `pool` [row, position + 1] begins with the examples themselves; behind them are the others that they come with,
    and behind those all other rows of the data, where something draws from them. `order` is that in which they are
    computed. `lengths` are the positions of each row of the pool that are no pads, where there are any. `ids` are the
    tokens that the pool's numbers stand for, where they are no tokens themselves: another number stands for one that is
    NaN. `places` are the positions of the rows that stand in for those of each example, of sources that draw any.
    """

    examples: Examples
    pool: Tokens
    partners: Mapping[Draw, Rows]
    order: Int[np.ndarray, " member"]
    vague: Sequence[str] = ()  # the features that tell no examples apart
    lengths: Int[np.ndarray, " row"] | None = None
    ids: Int[np.ndarray, " id"] | None = None
    places: Mapping[Draw, Places] = field(default_factory=dict)

    def batches(self, size: int) -> Iterator[Int[np.ndarray, " member"]]:
        """Cut the order into batches of so many examples."""
        for start in range(0, len(self.order), size):
            yield self.order[start : start + size]

    @cached_property
    def first(self) -> int:
        """Count the first positions at which every source has each example's own tokens, and none is scored.

        0 where so few aren't worth to be shared. Rows that are gathered are from anywhere.
        """
        inputs, of = self.pool[:, :-1], self.examples
        agree = of.scored.cumsum(1) == 0
        for rows in self.partners.values():
            if rows.ndim == 1:
                agree = agree & (inputs[rows] == inputs[: len(of)])
        first = int(np.logical_and.accumulate(agree, axis=1).sum(1).min(initial=of.context))
        return first if first >= WORTH_SHARING * of.context else 0

    def itself(self, source: Draw) -> Rows:
        """Give the partners that a source would have if it drew every example for itself."""
        shape = self.partners[source].shape
        rows = np.arange(len(self.examples))
        return rows if len(shape) == 1 else np.broadcast_to(rows[:, None], shape)

    @property
    def all_itself(self) -> Pairing:
        """The pairing in which every source draws every example for itself."""
        partners = {source: self.itself(source) for source in self.partners}
        at = np.arange(self.examples.context)
        places = {source: np.broadcast_to(at, found.shape) for source, found in self.places.items()}
        return replace(self, partners=partners, places=places)

    def at(self, source: Draw) -> Rows:
        """Say at which position of its row what stands in for each row of each example is."""
        found = self.places.get(source)
        shape = self.partners[source].shape
        return np.broadcast_to(np.arange(shape[1]), shape) if found is None else found

    def drew_itself(self, source: Draw) -> Bool[np.ndarray, "example *position"]:
        """Tell where a source drew the example itself: of one for each position, the very row that it stands in for."""
        own = self.partners[source] == self.itself(source)
        return np.asarray(own if own.ndim == 1 else own & (self.at(source) == np.arange(own.shape[1])))


def pair_up(
    examples: Examples,
    sources: Iterable[Draw],
    features: Mapping[str, Feature] | None = None,
    tokenizer: Tokenizer | None = None,
    seed: int = 0,
    draw: int = 0,
) -> Pairing:
    """Draw for every source what stands in for each example: the seed and the number of the draw determine it.

    `pair_up(examples, {X, Y}, seed=0)`. Examples that come with others are paired with those. Raises ScrubError if one
    example has no other, or a feature doesn't say a class for each example or position.
    """
    pool = _Pool(examples, features or {}, tokenizer, seed, draw)
    partners = {source: source.rows(pool) for source in ordered(sources) if isinstance(source, Draw)}
    # within a block, examples with about as many scored positions are computed together: little padding
    order = [block[np.argsort(examples.counts[block], kind="stable")] for block in blocks(len(examples), seed, draw)]
    check_agreement(pool, partners)
    parts = [examples.tokens, examples.other, examples.rest if any(isinstance(s, Drawn) for s in partners) else None]
    rows = np.concatenate([part for part in parts if part is not None])
    said = {**pool.classes, **pool.of_examples}
    vague = sorted(name for name, classes in said.items() if len(classes) > 1 and (classes == classes[0]).all())
    free = [source for source in partners if isinstance(source, Drawn) and source.anywhere]
    places: dict[Draw, Places] = {source: pool.places(source) for source in free}
    return Pairing(examples, rows, partners, np.concatenate(order), vague, _lengths(examples), places=places)


def _lengths(examples: Examples) -> Int[np.ndarray, " row"] | None:
    """Say how long the rows of a pool are, the others' behind the examples' own; None where no row has pads."""
    if examples.lengths is None and examples.other_lengths is None:
        return None
    others = [] if examples.other is None else [examples.real_in_other.sum(1)]
    return np.concatenate([examples.ends + 1, *others])


def check_draws(examples: Examples, number: int, sources: Iterable[Draw]) -> None:
    """Raise ScrubError for several draws of what is the same in each: pairs that data come with, and means."""
    drawn = {source for source in sources if source != X and (source != Y or examples.other is None)}
    if number > 1 and not drawn:
        why = f"the {examples.kind} come with others" if examples.other is not None else "a mean is over all of them"
        raise ScrubError(
            f"{number} draws were asked for, but {why}, so every draw would be the same: leave --draws out"
        )


def pool_notes(examples: Examples, sources: Iterable[Draw]) -> list[str]:
    """Say what draws of hypotheses are from, where there are any."""
    if not any(isinstance(source, Drawn) for source in sources):
        return []
    every = len(examples.every)
    rest = f", of which {len(examples):,} are the references" if every > len(examples) else ", the references"
    return [f"draws of hypotheses are from {every:,} rows of the data{rest}"]


def check_named(examples: Examples, graphs: Iterable[Node]) -> None:
    """Raise ScrubError unless examples have the positions by name that graphs tell apart, and so have their others.

    An example must not lack a name, nor come with an other of another length, nor be alone in its form where one is
    drawn for it; nor may rows of several forms be drawn for one another because they agree on a feature.
    """
    graphs = list(graphs)
    leaves = [leaf for leaf in walk(graphs) if leaf.op == "places" or leaf.op in PLACED.values()]
    texts = sorted(str(leaf.arguments["positions"]) for leaf in leaves if leaf.op == "places")
    wanted = [name for text in texts for name in names(text)]
    by = [what for what, op in PLACED.items() if any(leaf.op == op for leaf in leaves)]  # what means are by
    if "name" in by:
        wanted += examples.positions
    examples.check_names(wanted)
    for text in texts:
        examples.at(text)
    if leaves:
        of = f"rules name the positions {few(texts)}" if texts else f"means are by {by[0]}"
        examples.check_aligned(of)
    drawn = set().union(*(draws(graph) for graph in graphs))
    called = list(dict.fromkeys(wanted))
    form = numbered([examples.ends, *(examples.positions[name] for name in called)])
    agreeing = ordered(source for source in drawn - {X, Y} if not source.by_row)
    if wanted and agreeing and len(np.unique(np.stack([examples.forms, form]), axis=1).T) > examples.forms.max() + 1:
        raise ScrubError(
            f"'{agreeing[0]}' draws rows that have {few(called)} at other positions, where few rows are of one form: "
            "give more rows of each, or those of one form"
        )
    if wanted and examples.other is None and Y in drawn:
        other = pair_within(examples.forms, np.random.default_rng(0))
        if (apart := np.flatnonzero((np.bincount(form)[form] == 1) | (form != form[other]))).size:
            which = int(apart[np.argmin(np.bincount(form)[form[apart]])])
            raise ScrubError(
                f"{examples.row(which)} has no other of its length with {few(called)} at the same positions"
                f"{examples.as_text(which)}: give corrupted prompts, or more rows of that form"
            )


@dataclass(frozen=True)
class _Pool:
    """A pool of donors, which sources draw from: see :class:`scrub.paths.sources.Pool`."""

    examples: Examples
    features: Mapping[str, Feature]
    tokenizer: Tokenizer | None
    seed: int
    draw: int
    classes: dict[str, np.ndarray] = field(default_factory=dict)  # of all rows, by the features that were asked
    of_examples: dict[str, np.ndarray] = field(default_factory=dict)  # of those alone
    _drawn: dict[Drawn, Rows] = field(default_factory=dict)  # numbers of all rows of the data
    _at: dict[Drawn, Rows] = field(default_factory=dict)  # positions, of draws that are of any

    def itself(self) -> Rows:
        return np.arange(len(self.examples))

    def other(self) -> Rows:
        count = len(self.examples)
        if self.examples.other is not None:
            return np.arange(count) + count
        if count < 2:
            raise ScrubError("one sequence has no other to resample from: give more, or ablate by zero")
        of = self.examples
        found = pair_within(of.forms, generator(self.seed, self.draw, "pairs"))
        if (alone := np.flatnonzero(found == np.arange(count))).size:
            raise ScrubError(
                f"{of.row(alone[0])} has no other of its {of.ends[alone[0]] + 1} tokens{of.as_text(alone[0])}: give "
                "corrupted prompts, or more rows of that length"
            )
        return found

    def agreeing(self, feature: str, by_row: bool) -> Rows:
        classes = classes_on(self.features[feature], feature, self.examples, self.tokenizer)
        self.of_examples[feature] = classes
        wanted = self.examples.scored.shape if by_row else self.examples.scored.shape[:1]
        if classes.shape != wanted:
            raise ScrubError(
                f"the feature {feature!r} gives an array of shape {classes.shape} where '{'rows ' * by_row}like "
                f"{feature}' needs {wanted}: one class for each sequence, or with 'rows' for each position of each"
            )
        if self.examples.forms.any():
            classes = self._of_one_form(classes)
        return (row_donors if by_row else sequence_donors)(classes, self.seed, self.draw, feature)

    def drawn(self, draw: Drawn) -> Rows:
        found, own = self.number(draw), len(self.examples)
        others = 0 if self.examples.other is None else len(self.examples.other)
        return np.where(found < own, found, found + others)

    def number(self, draw: Drawn | None) -> Rows:
        """Draw, as numbers of all rows of the data: the examples, and those behind them."""
        if draw is None:
            return np.arange(len(self.examples))
        if draw not in self._drawn:
            self._drawn[draw] = self._number(draw)
        return self._drawn[draw]

    def places(self, draw: Drawn | None) -> Rows:
        shape = self.examples.scored.shape
        if draw is None or not draw.anywhere:
            return np.broadcast_to(np.arange(shape[1]), shape)
        self.number(draw)
        return self._at[draw]

    def _number(self, draw: Drawn) -> Rows:
        above, rng = self.number(draw.of), generator(self.seed, self.draw, f"draw {draw}")
        classes, shape = self._by_form(draw), self.examples.scored.shape
        if not draw.by_row:
            return among(classes, classes[above], np.asarray(rng.random(shape[0])))
        lot, at = np.asarray(rng.random(shape)), np.arange(shape[1])
        wanted = classes[above if above.ndim > 1 else above[:, None], self.places(draw.of)]
        if draw.anywhere:
            found = among(classes.ravel(), wanted.ravel(), lot.ravel())
            self._at[draw] = (found % shape[1]).reshape(shape)
            return np.asarray((found // shape[1]).reshape(shape))
        each = [among(classes[:, i], wanted[:, i], lot[:, i]) for i in at]
        return np.stack(each, axis=1)

    def _by_form(self, draw: Drawn) -> Int[np.ndarray, "row *position"]:
        """Number the classes of all rows, or of each position of each, none of which holds rows of two forms."""
        examples = self.examples.every
        forms, shape = examples.forms, examples.scored.shape
        if not draw.feature:
            return np.broadcast_to(forms[:, None], shape) if draw.by_row else forms
        found = self._classes(draw.feature)
        if found.shape != shape[: found.ndim] or found.ndim != 1 + draw.by_row:
            raise ScrubError(
                f"the feature {draw.feature!r} gives an array of shape {found.shape} where '{draw}' needs "
                f"{shape[: 1 + draw.by_row]}: one class for each sequence, or with 'rows' for each position of each"
            )
        known = np.unique(found, return_inverse=True)[1].reshape(found.shape)
        if draw.by_row:
            return known if examples.lengths is None else np.asarray(np.where(examples.real, known, -1))
        return np.asarray(known + forms * (known.max(initial=0) + 1))

    def _classes(self, feature: str) -> np.ndarray:
        if feature not in self.classes:
            self.classes[feature] = classes_on(self.features[feature], feature, self.examples.every, self.tokenizer)
        return self.classes[feature]

    def _of_one_form(self, classes: Int[np.ndarray, "example *position"]) -> Int[np.ndarray, "example *position"]:
        """Number classes so that a pad is no donor, and a whole sequence stands in for those of its form alone."""
        known = np.unique(classes, return_inverse=True)[1].reshape(classes.shape)
        if classes.ndim > 1:
            return np.asarray(np.where(self.examples.real, known, -1))
        return np.asarray(known + self.examples.forms * (known.max(initial=0) + 1))


def among(
    classes: Int[np.ndarray, " row"], wanted: Int[np.ndarray, " example"], lot: Float[np.ndarray, " example"]
) -> Int[np.ndarray, " example"]:
    """Choose for each example a row of the class that is wanted, where a number in [0, 1) falls among them."""
    order = np.argsort(classes, kind="stable")
    start, end = (np.searchsorted(classes, wanted, side, sorter=order) for side in ("left", "right"))
    count = end - start
    return np.asarray(order[start + np.minimum((lot * count).astype(np.int64), count - 1)])


def check_agreement(pool: _Pool, partners: Mapping[Draw, Rows]) -> None:
    """Raise GateError unless some rows that were drawn agree with those above them, the features being asked anew."""
    declared = {each for draw in partners if isinstance(draw, Drawn) for each in draw.chain if each.feature}
    for draw in ordered(declared):
        own, above = (pool.number(each)[:AGREEING] for each in (draw, draw.of))
        if draw.by_row:
            above = np.broadcast_to(above if above.ndim > 1 else above[:, None], own.shape)
        rows, at = np.unique(np.stack([own, above]), return_inverse=True)
        said = classes_on(pool.features[draw.feature], draw.feature, pool.examples.every.some(rows), pool.tokenizer)
        own_at, above_at = at.reshape(2, *own.shape)
        mine, its = ((pool.places(each)[:AGREEING],) if draw.by_row else () for each in (draw, draw.of))
        if (said[(own_at, *mine)] != said[(above_at, *its)]).any():
            raise GateError(
                f"'{draw}' drew a row of another class: the feature {draw.feature!r} says something else of the same "
                "tokens among other rows, where it must be a function of a row alone; no number of this can be trusted"
            )


def classes_on(feature: Feature, name: str, examples: Examples, tokenizer: Tokenizer | None) -> np.ndarray:
    """Ask a feature for the classes of examples, without their pads: of each length by itself. A pad's class is 0.

    Raises ScrubError as :func:`classes_of` does, and where those of two lengths have another shape.
    """
    columns = examples.said
    if examples.lengths is None:
        return classes_of(feature, name, examples.inputs, tokenizer, columns)
    found = np.zeros(len(examples), dtype=np.int64)
    for length in np.unique(examples.lengths):
        members = np.flatnonzero(examples.lengths == length)
        here = {column: values[members] for column, values in columns.items()}
        classes = classes_of(feature, name, examples.inputs[members, :length], tokenizer, here)
        if classes.shape == (len(members), length):
            found = found if found.ndim > 1 else np.zeros(examples.scored.shape, dtype=np.int64)
            found[members, :length] = classes
        elif classes.shape == (len(members),) and found.ndim == 1:
            found[members] = classes
        else:
            raise ScrubError(
                f"the feature {name!r} gives {list(classes.shape)} of {len(members)} rows of {length} tokens"
            )
    return found


def classes_of(
    feature: Feature,
    name: str,
    tokens: Int[np.ndarray, "sequence position"],
    tokenizer: Tokenizer | None,
    columns: Mapping[str, np.ndarray] = MappingProxyType({}),
) -> np.ndarray:
    """Ask a feature for the classes of input tokens. It is the user's own code: what it raises becomes a ScrubError.

    One that has a parameter `columns` gets what the data say of each row.
    """
    more = {"columns": dict(columns)} if asks_for(feature, "columns") else {}
    with theirs(f"the feature {name!r} fails", "it is called as feature(tokens [sequence, position], tokenizer)"):
        classes = np.asarray(feature(tokens.copy(), tokenizer, **more))
    if classes.dtype.kind not in "biu":
        raise ScrubError(
            f"the feature {name!r} gives {classes.dtype}: feature(tokens [sequence, position], tokenizer) returns "
            "classes, which are whole numbers"
        )
    return classes
