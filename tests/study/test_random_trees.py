"""Full causal scrubbing on random trees of interpretation nodes, against a recursion over those (`tree_oracle.py`).

A random tree over a random model has nodes at any paths below one another, features of rows and of positions, splits,
and a small pool of rows, of which some stand there twice. What scrub measures of the rows that it drew must be what the
recursion makes of them; and each draw must be uniform over the right class, apart from every other draw.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import Phase, event, example, given, settings
from hypothesis import strategies as st
from small import small_decoder
from tree_oracle import Carrier, Path, Plain, Recursion

import scrub
from scrub.data.examples import Examples
from scrub.models.model import Model
from scrub.paths.sources import Draw, Drawn
from scrub.study.draws import pair_up
from scrub.study.run import Trial

CONTEXT, VOCAB, LAYERS, HEADS = 5, 13, 2, 2
SIZES = {"n_ctx": CONTEXT, "vocab_size": VOCAB, "n_heads": HEADS, "n_kv_heads": HEADS, "d_head": 3, "d_model": 11}
MODELS = {
    mlps: small_decoder("gptneo", LAYERS, 3, **SIZES, windows=(None,), d_mlp=7 if mlps else None, activation="relu")
    for mlps in (False, True)
}
PAIRINGS = 80  # of which it is counted who was drawn
FAR = 6  # standard errors
MOST_WAYS = 2000  # that are gone through, for one reference


@dataclass(frozen=True)
class Feature:
    """A table that gives a class to each token: of that `at` a position, of their sum, or of each by itself."""

    table: tuple[int, ...]
    at: int | None = None
    by_row: bool = False

    def __call__(self, tokens: np.ndarray, _: object = None) -> np.ndarray:
        classes = np.array(self.table)[tokens]
        if self.by_row:
            return np.asarray(classes)
        return np.asarray(classes.sum(1) % 3 if self.at is None else classes[:, self.at])


@dataclass(frozen=True)
class Case:
    """A tree, what it is over, and the data: `rows` of the pool, of which the first are the references."""

    root: Carrier
    mlps: bool
    splits: dict[Path, tuple[str, str]]
    features: dict[str, Feature]
    rows: np.ndarray
    references: int

    @property
    def nodes(self) -> list[Carrier]:
        return [self.root, *self.root.below()]

    @property
    def draws(self) -> list[Carrier]:
        """The nodes whose own row has a say: it feeds something, or something that has one is of it."""
        said: list[Carrier] = []
        for node in reversed(self.nodes[1:]):
            if not node.children or node.rest == node.name or any(each.of == node.name for each in said):
                said.append(node)
        return said[::-1]

    def declaration(self) -> str:
        """The tree in scrub's language."""
        lines: list[str] = []
        for path, (kind, of) in self.splits.items():
            quoted = f'"{of}"' if kind == "mask" else of
            lines.append(f"{'  ' if lines else 'splits '}{'/'.join(path)} by {kind} {quoted}")
        said = []
        for node in self.draws:
            like = f"like {node.feature}" if node.feature else "any"
            of = f" of {node.of}" if node.of != "x" else ""
            said.append(f"{node.name} {'rows ' * node.by_row}{like}{of}")
        said += [f"{node.rest} any" for node in self.nodes if node.rest.startswith("U")]
        lines += [f"{'  ' if at else 'draws '}{text}" for at, text in enumerate(said)]
        rules = [f"{pattern} -> {source}" for pattern, source in self.rules()]
        return "\n".join([*lines, *(f"{'  ' if at else 'part '}{text}" for at, text in enumerate(rules))])

    def rules(self) -> Iterator[tuple[str, str]]:
        """Each node's after that of the node above it."""
        if self.root.rest != "x":
            yield "**", self.root.rest.partition(" ")[0]
        for node in self.root.below():
            source = node.rest if node.children else node.name
            terms = node.by_row and node.children  # each of which is all of one draw
            for path in node.paths:
                yield f"{'/'.join(path)}{'/*' if terms else ''}/**", source.partition(" ")[0]

    @property
    def examples(self) -> Examples:
        scored = np.ones((len(self.rows), CONTEXT), dtype=bool)
        return Examples(self.rows, scored).first(self.references)

    @property
    def model(self) -> Model:
        return MODELS[self.mlps]

    @cached_property
    def recursion(self) -> Recursion:
        tokens = self.rows[:, :-1]
        plain = Plain(self.model.params, LAYERS, HEADS, self.mlps, self.splits)
        return Recursion(plain, tokens, {name: each(tokens) for name, each in self.features.items()})

    def trial(self) -> Trial:
        text = self.declaration()
        features = {name: each for name, each in self.features.items() if f"like {name}" in text}
        mine = scrub.Hypothesis(text, name="h", features=features)
        study = scrub.Study("** -> y", (mine,), model="random")
        return scrub.prepare(study, self.model, self.examples, scrub.Settings(dtype="float64", batch=7, progress=False))

    def losses(self, drawn: dict[str, np.ndarray]) -> np.ndarray:
        """Of each case at each position, in nats, by the recursion."""
        following = torch.from_numpy(self.rows[:, 1:])[drawn["x"]]
        logits = self.recursion.logits(self.root, drawn)
        logits = logits.expand(len(following), -1, -1)
        return np.asarray(-logits.log_softmax(-1).gather(-1, following[..., None])[..., 0])


@st.composite
def paths(draw: st.DrawFn, model: Plain, above: Path, taken: list[Path]) -> Path | None:
    """A path to something below a node that none of those taken leads to or through; it may be split there."""
    path = above
    for _ in range(draw(st.sampled_from([1, 1, 2, 3, 4]))):
        terms = model.reads(path)
        if not terms:
            break
        term = draw(st.sampled_from(terms))
        path = draw(st.sampled_from(term))
        kind = draw(st.sampled_from([None, None, None, "positions", "mask"]))
        whole = path not in model.splits and "[" not in path[-1]
        if kind and whole and apart(path, taken) and (kind == "positions" or path[-1][0] == "a"):
            spans, masks = ["0", "1..2", "2..4"], ["current", "previous", "last 3"]
            model.splits[path] = (kind, draw(st.sampled_from(spans if kind == "positions" else masks)))
            path = draw(st.sampled_from(model.parts(path)))
    return path if path != above and apart(path, taken) else None


def apart(path: Path, taken: list[Path]) -> bool:
    """Whether a path leads neither to nor through any of some others, nor any of them through its end."""
    return all(path[: len(each)] != each[: len(path)] for each in taken)


@st.composite
def subtrees(draw: st.DrawFn, model: Plain, above: list[Carrier], path: Path, depth: int) -> tuple[Carrier, ...]:
    """What lies below a node of an interpretation, the last of those `above`."""
    parent = above[-1]
    taken: list[Path] = []
    found: list[Carrier] = []
    for number in range(draw(st.integers(2, 3) if depth == 0 else st.integers(1, 2))):
        one = draw(paths(model, path, taken)) if not parent.by_row else draw(terms(model, path, taken))
        if one is None:
            continue
        taken.append(one)
        name = f"{parent.name if parent.name != 'x' else 'N'}{number + 1}"
        by_row = parent.by_row or draw(st.sampled_from([False, False, True]))
        can = [each.name for each in above if each.by_row <= by_row]
        of = draw(st.sampled_from([can[-1], can[-1], can[-1], *can]))
        feature = draw(st.sampled_from(["r", "s"] if by_row else ["f", "g", "h"]))
        node = Carrier(name, (one,), name, feature, of, by_row)
        inner = draw(st.integers(0, 2)) and depth < 2 and not (parent.by_row or (by_row and one[-1][0] == "a"))
        children = draw(subtrees(model, [*above, node], one, depth + 1)) if inner else ()
        if children:
            fresh = f"any {'/'.join(one).replace(' ', '')}/**"  # as it is called, by its pattern
            other = draw(st.sampled_from([name, fresh, fresh, f"U{name}"]))
            found.append(replace(node, rest=name if by_row else other, children=children))
            continue
        if draw(st.integers(0, 2)) == 0:  # another path carries it too
            more = draw(paths(model, path, taken)) if not parent.by_row else None
            taken += [more] if more else []
            node = replace(node, paths=(one, more) if more else (one,))
        if draw(st.integers(0, 5)) == 0:
            node = replace(node, feature="", of="x")
        found.append(node)
    return tuple(found)


@st.composite
def terms(draw: st.DrawFn, model: Plain, above: Path, taken: list[Path]) -> Path | None:
    """A term of what a node of rows reads: nothing further down can have a row of its own for each position."""
    found = [each for term in model.reads(above) for each in term if each not in taken]
    return draw(st.sampled_from(found)) if found else None


@st.composite
def cases(draw: st.DrawFn) -> Case:
    mlps = draw(st.booleans())
    model = Plain({}, LAYERS, HEADS, mlps)
    rest = draw(st.sampled_from(["any **", "any **", "y", "x", "Ux"]))
    root = Carrier("x", ((),), rest)
    children = draw(subtrees(model, [root], (), 0))
    tables = {name: tuple(draw(st.lists(st.integers(0, 2), min_size=VOCAB, max_size=VOCAB))) for name in "fghrs"}
    at = {"f": draw(st.integers(0, CONTEXT - 1)), "g": draw(st.integers(0, CONTEXT - 1)), "h": None}
    features = {name: Feature(table, at.get(name), name in "rs") for name, table in tables.items()}
    rng = np.random.default_rng(draw(st.integers(0, 2**20)))
    distinct, count = rng.integers(0, VOCAB, (draw(st.integers(3, 9)), CONTEXT + 1)), draw(st.integers(5, 11))
    rows = distinct[rng.integers(0, len(distinct), count)]
    rows[rng.integers(1, count)] = rows[0]  # stands there twice
    root = replace(root, children=children)
    return Case(root, mlps, model.splits, features, rows, draw(st.integers(3, count)))


def written_out(root: Carrier, splits: dict[Path, tuple[str, str]]) -> Case:
    """A case of a tree that is no matter of luck, with nine rows, of which seven are references."""
    rng = np.random.default_rng(5)
    features = {name: Feature(tuple(rng.integers(0, 2, VOCAB).tolist()), at) for name, at in (("f", 1), ("g", 3))}
    features["r"] = Feature(tuple(rng.integers(0, 2, VOCAB).tolist()), by_row=True)
    rows = rng.integers(0, VOCAB, (5, CONTEXT + 1))[[0, 1, 2, 3, 4, 0, 0, 1, 2]]
    return Case(root, True, splits, features, rows, 7)


# three nodes below one another, of which the middle one's row feeds what its child doesn't; one with two paths; draws
# for each position below one another; both kinds of split; and y
A, Q, K, A0 = ("a1.0",), ("a1.0", "q"), ("a1.0", "k"), ("a1.0", "k", "a0.1[previous]")
INNERMOST = Carrier("A11", (A0,), "A11", "g", "A1")
MIDDLE = Carrier("A1", (K,), "A1", "f", "A", children=(INNERMOST,))
TWO_PATHS = Carrier("B", (("a0.0",), ("m0[1..2]",)), "B", "g")
ROWS = Carrier("R", (Q,), "R", "r", "A", True, (Carrier("R1", ((*Q, "a0.0"),), "R1", "r", "R", True),))
SPLITS = {(*K, "a0.1"): ("mask", "previous"), ("m0",): ("positions", "1..2")}
WRITTEN_OUT = [
    written_out(Carrier("x", ((),), "y", children=(Carrier("A", (A,), of_a, "f", children=below), TWO_PATHS)), SPLITS)
    for of_a, below in (("any a1.0/**", (MIDDLE,)), ("UA", (MIDDLE, ROWS)))
]


def by_name(partners: dict[Draw, np.ndarray]) -> dict[str, np.ndarray]:
    """What was drawn, by the names of draws, the patterns of `any`, x and y: nothing is drawn twice."""
    names = [source.name if isinstance(source, Drawn) else str(source) for source in partners]
    assert len(set(names)) == len(names)
    return dict(zip(names, partners.values(), strict=True))


def named(trial: Trial) -> set[Draw]:
    """All that a trial draws, and what it would for nodes whose own rows feed nothing."""
    return {*trial.hypotheses[0].draws.values(), *trial.pairing(0).partners}


@example(WRITTEN_OUT[0])
@example(WRITTEN_OUT[1])
@settings(max_examples=settings.default.max_examples * 3 // 5, phases=[Phase.explicit, Phase.generate])
@given(cases())
def test_scrub_is_the_recursion(case: Case) -> None:
    """Cases that fail aren't made small: that takes minutes."""
    trial = case.trial()
    sources = named(trial)
    drawn = [
        by_name(pair_up(case.examples, sources, case.features, None, 0, number).partners) for number in range(PAIRINGS)
    ]
    for name, rows in by_name(trial.pairing(1).partners).items():
        assert np.array_equal(rows, drawn[1][name]), "what else is drawn changes nothing"
    found = trial.token_losses("h/all", draw=1)["h/all"].to_numpy().reshape(-1, CONTEXT)
    np.testing.assert_allclose(found, case.losses(drawn[1]), rtol=0, atol=1e-9)

    every = {name: np.stack([each[name] for each in drawn]) for name in drawn[0]}
    each_is_uniform_and_apart(case, every)
    losses_are_right_in_the_mean(case, every)
    event(f"{len(case.nodes) - 1} nodes, {sum(bool(node.children) for node in case.nodes[1:])} of them inner")
    event(
        f"splits: {len(case.splits) > 0}, rows: {any(node.by_row for node in case.nodes)}, y: {case.root.rest == 'y'}"
    )


def far(found: float, variance: float) -> bool:
    """Whether a sum of independent numbers of mean 0 is out of all proportion; too few of them never are."""
    return variance > 3 and abs(found) > FAR * variance**0.5


def each_is_uniform_and_apart(case: Case, drawn: dict[str, np.ndarray]) -> None:
    """Who is drawn [pairing, reference, *position] is uniform in its class, whoever else is drawn, here or there."""
    places: dict[str, tuple[np.ndarray, np.ndarray]] = {}  # in its class, from -1/2 to 1/2, and the variance of that
    for name, rows in drawn.items():
        if name in {"x", "y"}:
            continue
        above, agrees = agreeing(case, name, drawn)
        every = np.arange(len(case.rows)).reshape(-1, *[1] * rows.ndim)
        hit, share = rows == every, 1 / agrees.sum(0)
        assert agrees[hit].all(), f"{name} is a row of another class"
        chance = agrees * share
        for number, (own, likely) in enumerate(zip(hit, chance, strict=True)):
            assert not far((own - likely).sum(), (likely * (1 - likely)).sum()), f"{name} is the row {number} too often"
        x = drawn["x"].reshape(*drawn["x"].shape, *[1] * (rows.ndim - 2))
        for whose in (above, x):
            likely = np.take_along_axis(chance, np.broadcast_to(whose, rows.shape)[None], 0)
            assert not far(((rows == whose) - likely).sum(), (likely * (1 - likely)).sum()), (
                f"{name} isn't often itself"
            )
        before = (agrees & (every < rows)).sum(0)
        places[name] = (before + 0.5) * share - 0.5, (1 - share**2) / 12
    for one, two in combinations(places, 2):
        (a, of_a), (b, of_b) = (
            [each.sum(-1) if each.ndim > drawn[other].ndim else each for each in places[name]]
            for name, other in ((one, two), (two, one))
        )
        assert not far((a * b).sum(), (of_a * of_b).sum()), f"{one} and {two} hang together"
    for name, (a, of_a) in places.items():
        for axis in range(a.ndim):
            (a0, a1), (v0, v1) = ((np.delete(each, -1, axis), np.delete(each, 0, axis)) for each in (a, of_a))
            assert not far((a0 * a1).sum(), (v0 * v1).sum()), f"{name} hangs together with what it draws beside"


def agreeing(case: Case, name: str, drawn: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """The row above what was drawn, and which rows of the pool [row, pairing, reference, *position] agree with that."""
    node, rows = {each.name: each for each in case.nodes}.get(name), drawn[name]
    above = drawn[node.of if node else "x"]
    above = above if above.ndim == rows.ndim else above[..., None]
    if node is None or not node.feature:
        return above, np.ones((len(case.rows), *rows.shape), dtype=bool)
    classes = case.recursion.classes[node.feature]
    if not node.by_row:
        return above, classes[:, None, None] == classes[above]
    return above, classes[:, None, None] == classes[above, np.arange(CONTEXT)]


def losses_are_right_in_the_mean(case: Case, drawn: dict[str, np.ndarray]) -> None:
    """The mean over what was drawn is that over all that can be drawn, each as likely as it is."""
    if any(rows.ndim > 2 for rows in drawn.values()):
        return
    for x in range(min(case.references, 3)):
        others = [each for each in range(case.references) if each != x]
        ways, share = case.recursion.ways(case.root, x, others, drawn)
        assert share.sum() == pytest.approx(1)
        if len(share) > MOST_WAYS:
            continue
        event("every way gone through")
        each, found = (case.losses(some).mean(1) for some in (ways, {name: rows[:, x] for name, rows in drawn.items()}))
        mean = (share * each).sum()
        assert abs(found.mean() - mean) < FAR * ((share * (each - mean) ** 2).sum() / len(found)) ** 0.5 + 1e-9
        assert all(np.abs(each - one).min() < 1e-9 for one in found)
