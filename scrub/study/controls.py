"""Controls: what stands beside a hypothesis whose draws have features, each an experiment of the same run.

What is recovered is weak evidence for features: the label as the only one can recover more than the true ones. So
beside such a hypothesis stand the same tree with everything exact, with the label as the only feature, each draw left
out in turn, random features with as many of each class, and its own features, given to its draws in other ways. One
that isn't clearly better than these isn't told apart from them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import factorial, prod
from typing import Any

import numpy as np
from jaxtyping import Int, Shaped
from tokenizers import Tokenizer

from scrub.data.examples import LABEL, Examples
from scrub.models.model import Model
from scrub.paths.sources import Drawn
from scrub.study.draws import Feature, classes_on
from scrub.study.experiments import Experiment, Experiments, Name, parts_of
from scrub.study.hypothesis import ALL, DRAWS, SPLITS, Hypothesis
from scrub.study.study import Study
from scrub.text.errors import ScrubError
from scrub.text.numbers import PLAIN, Interval
from scrub.text.wording import few

EXACT, WITHOUT, RANDOM, REASSIGNED = "exact", "without", "random", "reassigned"
RANDOM_SAYS = "classes at random, as many of each"
MOST_REASSIGNED = 6  # of one hypothesis

Given = Mapping[str, str | None]  # by the name of a draw: its feature, "" for none, None where it is x


@dataclass(frozen=True)
class Control:
    """A control of an experiment: its kind and number ("reassigned 2"), what it says, and the experiment it is.

    Of a reassignment, `ways` are how many there are.
    """

    of: Name
    kind: str
    says: str
    name: Name
    ways: int = 0


@dataclass(frozen=True)
class Measured:
    """What a control recovers, in percent, and how many points more its hypothesis does, paired."""

    control: Control
    recovered: Interval
    gain: Interval

    @property
    def beaten(self) -> bool:
        """Whether the hypothesis is clearly better."""
        return self.gain.low > 0

    def __str__(self) -> str:
        """Name it, with how much better the hypothesis is."""
        return f"{self.control.kind}, {PLAIN.with_interval(self.gain, 1, sign=True)}"


@dataclass(frozen=True)
class Controls:
    """The controls of some hypotheses, the experiments that they are, and what couldn't be made."""

    each: tuple[Control, ...] = ()
    experiments: tuple[Experiment, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def hypotheses(self) -> list[Hypothesis]:
        """The controls as hypotheses."""
        return [each.hypothesis for each in self.experiments if each.hypothesis]


def controls_of(
    study: Study,
    hypotheses: Sequence[Hypothesis],
    built: Experiments,
    model: Model,
    examples: Examples,
    features: Mapping[str, Feature],
    seed: int,
) -> Controls:
    """Make the controls of all parts together, or else of the last part there is, of each hypothesis with features.

    `features` are those of the hypotheses for this model.
    """
    makers = _Makers(features, {name for each in hypotheses for name in each.features}, examples, model, seed)
    found: list[Control] = []
    experiments: list[Experiment] = []
    notes: list[str] = []
    for hypothesis in hypotheses:
        parts = [each.part for each in built if each.hypothesis and each.hypothesis.name == hypothesis.name]
        if not parts or not any(draw.feature for draw in hypothesis.draws.values()):
            continue
        part = ALL if ALL in parts else parts[-1]
        for kind, ways, given in makers.ways(hypothesis, notes):
            try:
                made = rewritten(hypothesis, kind, given, makers.features)
                (experiment,) = parts_of(study, made, model.graph, model.roles, [part])
            except ScrubError as error:
                notes.append(f"the control '{kind}' of {hypothesis.name} is left out: {error}")
                continue
            says = RANDOM_SAYS if kind == RANDOM else _says(hypothesis, given)
            found.append(Control(Name(hypothesis.name, part), kind, says, experiment.name, ways))
            experiments.append(experiment)
    return Controls(tuple(found), tuple(experiments), tuple(dict.fromkeys(notes)))


def rewritten(of: Hypothesis, kind: str, given: Given, features: Mapping[str, Feature]) -> Hypothesis:
    """Write a hypothesis with other features for some of its draws."""
    sources = {rule.source for rules in of.parts.values() for rule in rules}
    fed = {name for name, draw in of.draws.items() if draw in sources}
    draws: list[str] = []
    for name, draw in reversed(list(of.draws.items())):
        feature = given.get(name, draw.feature)
        if name in fed and feature is not None:
            draws.insert(0, _line(draw, feature))
            fed |= {draw.of.name} if draw.of and feature else set()
    exact = {name for name, feature in given.items() if feature is None}
    sections: dict[str, list[str]] = {}
    for title, lines in of.sections.items():
        if title == DRAWS:
            sections[title] = draws
        else:
            sections[title] = lines if title == SPLITS else [_fed(line, exact) for line in lines]
    return replace(
        of,
        rules="\n".join(
            f"{title} " + "\n    ".join(map(str.strip, lines)) for title, lines in sections.items() if lines
        ),
        claim=f"{kind[:1].upper()}{kind[1:]}, a control of {of.name}: {_says(of, given)}.",
        name=f"{of.name}~{kind.replace(' ', '_')}",
        features={**of.features, **features},
        published={},
        published_ratios={},
        parameters={},
        values={},
        control_of=of.name,
    )


def _line(draw: Drawn, feature: str) -> str:
    """Write a draw with another feature."""
    of = "" if draw.of is None or not feature else f" of {draw.of.name}"
    return f"{draw.name} {'rows ' * draw.by_row}{f'like {feature}' if feature else 'any'}{of}"


def _fed(line: str, exact: set[str]) -> str:
    """Write a rule of a draw that is x."""
    pattern, _, source = line.rpartition("->")
    return f"{pattern}-> x" if source.strip() in exact else line


def _says(of: Hypothesis, given: Given) -> str:
    """Say what is other than in a hypothesis: "A, B like label; H any"."""
    names: dict[str, list[str]] = {}
    for name, feature in given.items():
        if feature != of.draws[name].feature:
            said = "x" if feature is None else f"like {feature}" if feature else "any"
            names.setdefault(said, []).append(name)
    return "; ".join(f"{', '.join(each)} {said}" for said, each in names.items())


class _Makers:
    """What makes the ways to control hypotheses, and the `features` that those need, each once."""

    def __init__(
        self, own: Mapping[str, Feature], taken: set[str], examples: Examples, model: Model, seed: int
    ) -> None:
        self.own, self.taken, self.examples, self.tokenizer, self.seed = own, taken, examples, model.tokenizer, seed
        self.features: dict[str, Feature] = {}

    def ways(self, of: Hypothesis, notes: list[str]) -> Iterator[tuple[str, int, Given]]:
        """Give each control's kind, of how many ways it is one, and the features that its draws have."""
        drawn = {name: draw for name, draw in of.draws.items() if draw.feature}
        yield EXACT, 0, dict.fromkeys(drawn)
        if self.examples.labels is not None or all(draw.by_row for draw in drawn.values()):
            yield LABEL, 0, {name: self._label(draw.by_row) for name, draw in drawn.items()}
            if self.examples.labels is None:
                notes.append(
                    "the control 'label' is the next token at each position; the last one, behind which nothing is "
                    "read, is of a class of its own"
                )
        else:
            notes.append(f"{of.name} has no control 'label': it draws whole sequences, and the data have no labels")
        for name in drawn:
            yield f"{WITHOUT} {name}", 0, {name: ""}
        yield RANDOM, 0, {name: self._random(draw.feature) for name, draw in drawn.items()}
        every, ways = reassigned(drawn, np.random.default_rng([self.seed, *f"reassigned {of.name}".encode()]))
        if ways > len(every):
            notes.append(f"{len(every)} of {ways:,} ways to reassign the features of {of.name} are run")
        for at, given in enumerate(every):
            yield f"{REASSIGNED} {at + 1}", ways, given

    def _label(self, by_row: bool) -> str:
        if self.examples.labels is None:
            return self._named("next_token", next_token)
        return self._named("label_there", label_there) if by_row else self._named(LABEL, label_of)

    def _random(self, feature: str) -> str:
        for name, made in self.features.items():
            if isinstance(made, RandomFeature) and made.of == feature:
                return name
        made = RandomFeature.made(feature, self.own[feature], self.examples, self.tokenizer, self.seed)
        return self._named(f"random_{feature}", made)

    def _named(self, name: str, feature: Callable[..., Any]) -> str:
        """Name a feature as no hypothesis does."""
        while name in self.taken or self.features.get(name, feature) is not feature:
            name += "_"
        self.features[name] = feature
        return name


def label_of(
    tokens: Int[np.ndarray, "row position"], _: Tokenizer | None, columns: Mapping[str, np.ndarray]
) -> Shaped[np.ndarray, " row"]:
    """Tell rows apart by their label alone."""
    del tokens
    return columns[LABEL]


def label_there(
    tokens: Int[np.ndarray, "row position"], _: Tokenizer | None, columns: Mapping[str, np.ndarray]
) -> Shaped[np.ndarray, "row position"]:
    """Tell positions apart by the label of their row."""
    return np.broadcast_to(columns[LABEL][:, None], tokens.shape)


def next_token(tokens: Int[np.ndarray, "row position"], _: Tokenizer | None) -> Int[np.ndarray, "row position"]:
    """Tell positions apart by the token behind them; nothing is known of what is behind the last."""
    return np.concatenate([tokens[:, 1:], np.full((len(tokens), 1), -1)], axis=1)


@dataclass(frozen=True, eq=False)
class RandomFeature:
    """A random feature of rows of the data, or of their positions, with as many of each class as another one has.

    Equal rows are of one class, so sizes are as near as that lets them be. Made by :meth:`made`.
    """

    of: str
    factors: Shaped[np.ndarray, " position"]  # that make a number of a row
    keys: Int[np.ndarray, " distinct"]
    classes: Int[np.ndarray, "distinct *position"]

    @classmethod
    def made(
        cls, of: str, feature: Feature, examples: Examples, tokenizer: Tokenizer | None, seed: int
    ) -> RandomFeature:
        """Draw one like the feature that is called so, on all rows of the data."""
        every, rng = examples.every, np.random.default_rng([seed, *f"random {of}".encode()])
        factors = np.asarray(rng.integers(0, 2**64, every.inputs.shape[1], dtype=np.uint64))
        said = classes_on(feature, of, every, tokenizer)
        numbers = classes_on(lambda tokens, _: _numbers(tokens, factors), of, every, tokenizer)
        keys, times = np.unique(numbers, return_counts=True)
        if said.ndim == 1:
            return cls(of, factors, keys, alike(said, times, rng))
        return cls(of, factors, keys, np.stack([alike(column, times, rng) for column in said.T], axis=1))

    def __call__(
        self, tokens: Int[np.ndarray, "row position"], _: Tokenizer | None = None
    ) -> Int[np.ndarray, "row *position"]:
        found = self.classes[np.searchsorted(self.keys, _numbers(tokens, self.factors))]
        return np.asarray(found if found.ndim == 1 else found[:, : tokens.shape[1]])


def _numbers(
    tokens: Int[np.ndarray, "row position"], factors: Shaped[np.ndarray, " position"]
) -> Int[np.ndarray, " row"]:
    """Make a number of each row, the same of equal ones, and of no two others but by a chance of 2 to the -60."""
    return np.asarray(((tokens.astype(np.uint64) + np.uint64(1)) * factors[: tokens.shape[1]]).sum(1).view(np.int64))


def alike(
    classes: Int[np.ndarray, " row"], times: Int[np.ndarray, " distinct"], rng: np.random.Generator
) -> Int[np.ndarray, " distinct"]:
    """Draw a class for each of some distinct rows, which are there so many times: of all rows as many of each class.

    `alike(np.array([0, 0, 1]), np.array([2, 1]), rng)` is [0, 1]. The most frequent rows choose first.
    """
    values, room = np.unique(classes, return_counts=True)
    order = np.lexsort((rng.random(len(times)), -times))
    several = order[times[order] > 1]
    found = np.empty(len(times), dtype=np.int64)
    for each in several:
        share = np.cumsum(np.where(room >= times[each], room, 0))
        lot = np.searchsorted(share, rng.random() * share[-1], side="right") if share[-1] else room.argmax()
        found[each] = values[lot]
        room[lot] -= times[each]
    left = rng.permutation(np.repeat(values, np.maximum(room, 0)))
    found[order[len(several) :]] = left[: len(times) - len(several)]
    return found


def reassigned(drawn: Mapping[str, Drawn], rng: np.random.Generator) -> tuple[list[Given], int]:
    """Give draws one another's features, those of whole rows apart from those of positions; and count all such ways.

    First features change places wherever they are, then the features of single draws. Of more than MOST_REASSIGNED,
    so many are drawn.
    """
    of_kind = [[name for name, draw in drawn.items() if draw.by_row == by_row] for by_row in (False, True)]
    own = [[drawn[name].feature for name in names] for names in of_kind]
    counts = [Counter(features) for features in own]
    renamings = prod(factorial(len(of)) for of in counts)
    keeping = prod(factorial(n) for of in counts for n in Counter(of.values()).values())  # how often each is there
    moves = prod(factorial(of.total()) // prod(map(factorial, of.values())) for of in counts)
    ways = moves + renamings - keeping
    found = {tuple(map(tuple, own)): None}

    def renamed(features: list[str]) -> list[str]:
        names = list(dict.fromkeys(features))
        to = dict(zip(names, rng.permutation(names).tolist(), strict=True))
        return [to[name] for name in features]

    def moved(features: list[str]) -> list[str]:
        return list(rng.permutation(features).tolist())

    for change, most in ((renamed, renamings), (moved, ways)):
        while len(found) < min(MOST_REASSIGNED + 1, most):
            found[tuple(tuple(change(features)) for features in own)] = None
    _, *others = found
    names = [name for of in of_kind for name in of]
    return [dict(zip(names, sum(each, ()), strict=True)) for each in others], ways - 1


def verdict(of: str, measured: Sequence[Measured]) -> list[str]:
    """Say of a hypothesis what it is clearly better than, and what not; and where the label alone recovers more."""
    ways = [each for each in measured if each.control.ways]
    lines = [_of_reassignments(of, ways)]
    if equal := [each for each in measured if each.control.kind.startswith((WITHOUT, RANDOM)) and not each.beaten]:
        lines.append(f"{of} is NOT clearly better than {_listed(equal)}")
    for each in measured:
        if each.control.kind == LABEL and each.gain.estimate < 0:
            more = PLAIN.with_interval(Interval(-each.gain.estimate, -each.gain.high, -each.gain.low), 1)
            clearly = "" if each.gain.high < 0 else ", though not clearly"
            lines.append(
                f"the label alone recovers more than {of}, by {more}{clearly}: what is recovered can't tell true "
                "features from false, what reassigned ones recover can"
            )
    return lines


def _of_reassignments(of: str, found: Sequence[Measured]) -> str:
    if not found:
        return f"{of} has features that can be given to its draws in no other way: no reassignment tests them"
    ways, lost = found[0].control.ways, [each for each in found if not each.beaten]
    run = f"{len(found)}" if ways == len(found) else f"{len(found)} of {ways:,} were run"
    if not lost:
        return f"{of} is clearly better than every reassignment of its features ({run})"
    return f"{of} is NOT clearly better than {len(lost)} of the reassignments of its features ({run}): {_listed(lost)}"


def _listed(measured: Sequence[Measured]) -> str:
    return few([str(each) for each in sorted(measured, key=lambda each: each.gain.estimate)])
