"""Steps of a search against greedy selection in a few lines, planted pairs, and what is begun again."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from searched import ONE_ENTRY, WHOLE, exactly, fold_of, model_of, prompts, some, text

from scrub.measure.search.cells import Cell
from scrub.measure.search.exact import Exact, Kept, Record
from scrub.measure.search.fold import Fold
from scrub.measure.search.screen import Scored
from scrub.measure.search.search import _beyond, _Ends
from scrub.measure.search.steps import Search, Step, Way, check_start
from scrub.text.errors import ScrubError
from scrub.text.numbers import Interval


@pytest.fixture(scope="module")
def fold() -> Fold:
    """By KL, of which the baseline has more than the model for sure."""
    model = model_of("attn")
    return fold_of(ONE_ENTRY, model, text(model), "kl")


def search_of(fold: Fold, path: Path | None = None, about: Any = 0, **how: Any) -> Search:
    record = Record(path, {"about": about})
    return Search(fold.cells, Exact(fold, record), record, **how)


def greedy(fold: Fold, size: int, weights: np.ndarray | None = None, without: Collection[Cell] = ()) -> list[Kept]:
    """Add the cell that is best, again and again, each measured."""
    of = np.ones(len(fold.positions)) if weights is None else weights
    kept, found = frozenset[Cell](), []
    for _ in range(size):
        lists = [kept | {cell} for cell in fold.cells.every if cell not in kept and cell not in without]
        kept = lists[int(np.argmin(exactly(fold, lists) @ of))]
        found.append(kept)
    return found


def test_all_checked_is_greedy(fold: Fold) -> None:
    way = search_of(fold, checked=None).grown("found", 3)
    assert [way.lists[size][0] for size in range(1, 4)] == greedy(fold, 3)
    values = -exactly(fold, [way.lists[size][0] for size in range(4)]).sum(1) / fold.positions.sum()
    np.testing.assert_allclose([way.lists[size][1] for size in range(4)], values, rtol=0, atol=1e-12)
    np.testing.assert_allclose([step.gain for step in way.steps], np.diff(values), rtol=0, atol=1e-12)
    assert [step.checked for step in way.steps] == [18, 17, 16]


def test_lists_of_all_sizes_are_at_least_as_good_as_those_of_the_way(fold: Fold) -> None:
    search = search_of(fold)
    way = search.grown("found", 5)
    by_size: dict[int, float] = {}
    for step in way.steps:
        value = -exactly(fold, [step.kept])[0].sum() / fold.positions.sum()
        by_size[len(step.kept)] = max(value, by_size.get(len(step.kept), -np.inf))
    assert {size: value for size, (_, value) in way.lists.items() if size} == pytest.approx(by_size, abs=1e-12)
    assert set(by_size) >= set(range(1, 6))
    assert all(way.by[size].kept == way.lists[size][0] for size in by_size)
    assert search.exact.count <= 4 * 2 * len(way.steps) + 1 + len(way.steps)


def test_weights_are_examples_that_come_again(fold: Fold, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scrub.measure.search.steps.SURE", 0.0)  # more examples are surer
    counts = np.array([2, 0, 1, 3, 1])
    examples = fold.trial.examples
    rows = np.repeat(np.arange(5), counts)
    assert examples.other is not None
    again = replace(examples.some(rows), other=examples.other[rows])
    repeated = fold_of(ONE_ENTRY, fold.cells.model, again, "kl")
    weighted = search_of(fold, checked=3).grown("one", 3, weights=counts.astype(float))
    plain = search_of(repeated, checked=3).grown("two", 3)
    assert {size: kept for size, (kept, _) in weighted.lists.items()} == {
        size: kept for size, (kept, _) in plain.lists.items()
    }
    for size in range(4):
        assert weighted.lists[size][1] == pytest.approx(plain.lists[size][1], abs=1e-12)
    assert weighted.lists[3][0] != search_of(fold, checked=3).grown("one", 3).lists[3][0]


def test_a_rival_has_none_of_what_it_is_without(fold: Fold) -> None:
    search = search_of(fold)
    best = search.grown("found", 4).list(4)
    rival = search.grown("rival", 4, without=best)
    assert all(not kept & best for kept, _ in rival.lists.values())
    everything = search_of(fold, checked=None).grown("rival", 2, without=best)
    assert [everything.lists[size][0] for size in (1, 2)] == greedy(fold, 2, without=best)
    last = search.grown("few", 17, without=fold.cells.every[3:])
    assert max(last.lists) == 3


@pytest.mark.parametrize("checked", [None, 4])
def test_backward_leaves_the_least(fold: Fold, checked: int | None) -> None:
    every = frozenset(fold.cells.every)
    way = search_of(fold, checked=checked).grown("found", 15, every)
    assert {18, 17, 16, 15} <= set(way.lists)
    assert not way.grows
    if checked is None:
        kept = every
        for size in (17, 16, 15):
            lists = [kept - {cell} for cell in fold.cells.every if cell in kept]
            kept = lists[int(np.argmin(exactly(fold, lists).sum(1)))]
            assert way.lists[size][0] == kept
    between = search_of(fold).grown("found", 3, some(fold.cells, 6))
    assert set(between.lists) >= {3, 4, 5, 6}
    assert between.lists[3][0] <= some(fold.cells, 6) or any(step.added for step in between.steps)


class Table:
    """A search on values that are written down instead of measured."""

    def __init__(self, value: Callable[[Kept], float], monkeypatch: pytest.MonkeyPatch, fold: Fold, wrong: float = 1):
        """What is expected of a cell is what it brings, times so much."""
        self.asked: list[Kept] = []
        positions = np.ones(1)
        metric = SimpleNamespace(less_is_better=False, name="worth")
        of = SimpleNamespace(positions=positions, metric=metric, whole_of=lambda _: 10.0, anchors=None)

        def exact(lists: list[Kept]) -> list[tuple[np.ndarray, np.ndarray]]:
            self.asked += lists
            return [(np.array([value(kept)]), np.array([0.0])) for kept in lists]

        def scored(_: Search, now: Kept) -> Scored:
            gains = [wrong * (value(now ^ {cell}) - value(now)) for cell in fold.cells.every]
            return Scored(fold.cells.every, np.array(gains)[:, None])

        exact.fold = of  # type: ignore[attr-defined]
        monkeypatch.setattr(Search, "_scored", scored)
        self.search = Search(fold.cells, exact, Record(None, {}))  # type: ignore[arg-type]


def test_floating_finds_two_that_only_work_together(fold: Fold, monkeypatch: pytest.MonkeyPatch) -> None:
    """One alone is best, and the pair is far better than any list with it of the same size."""
    a, b, c, *_ = fold.cells.every

    def value(kept: Kept) -> float:
        return (
            (1.0 * (a in kept) + 0.9 * (b in kept)) * (0.1 if {b, c} <= kept else 1)
            + 3 * ({b, c} <= kept)
            + 0.01 * (c in kept)
        )

    way = Table(value, monkeypatch, fold).search.grown("found", 2)
    assert way.lists[1][0] == {a}
    assert way.lists[2][0] == {b, c}
    assert [step.added for step in way.steps[:4]] == [True, True, True, False]


@pytest.mark.parametrize("sure", [True, False])
def test_cells_that_only_work_together_are_taken_together(
    fold: Fold, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, sure: bool
) -> None:
    """Three that bring nothing one by one, but have the best scores at the start; one of them isn't needed."""
    a, b, c, d, *others = fold.cells.every
    monkeypatch.setattr("scrub.measure.search.steps.SURE", 0.0 if sure else np.inf)

    def value(kept: Kept) -> float:
        small = 0.1 * len(kept & {*others}) - 0.05 * (c in kept)
        return small + 3.0 * ({a, b, d} <= kept)

    def scored(_: Search, now: Kept) -> Scored:
        best = dict.fromkeys((a, b, c, d), 9.0) if not now else {}
        gains = [best.get(cell, value(now ^ {cell}) - value(now)) for cell in fold.cells.every]
        return Scored(fold.cells.every, np.array(gains)[:, None])

    table = Table(value, monkeypatch, fold)
    monkeypatch.setattr(Search, "_scored", scored)
    ways = []
    for _ in range(2):  # and what was kept of it says the same
        table.search.record = Record(tmp_path / "record", {"about": 0})
        ways.append(table.search.grown("found", 4))
    way, again = ways
    assert [step.whole for step in way.steps].count(True) == sure
    assert ({a, b, d} <= way.lists[4][0]) == sure
    assert not sure or c not in way.lists[4][0], "it goes again"
    assert list(map(str, again.steps)) == list(map(str, way.steps))
    assert [step.kept for step in again.steps] == [step.kept for step in way.steps]
    assert again.lists == way.lists
    start = frozenset(others[:1])
    from_there = table.search.grown("further", 5, start)
    assert start <= from_there.lists[5][0]


def test_a_search_ends_only_behind_the_best_of_the_start(fold: Fold, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two bring nothing one by one: where it would end at two cells, they are tried before."""
    a, b, c, d, *_ = fold.cells.every

    def value(kept: Kept) -> float:
        return 1.0 * (c in kept) + 0.1 * (d in kept) + 3.0 * ({a, b} <= kept)

    def scored(_: Search, now: Kept) -> Scored:
        best = {a: 9.0, b: 9.0} if not now else {}
        gains = [best.get(cell, value(now ^ {cell}) - value(now)) for cell in fold.cells.every]
        return Scored(fold.cells.every, np.array(gains)[:, None])

    asked: list[Kept] = []

    def ends(way: Way) -> bool:
        asked.append(way.lists[len(way.steps[-1].kept)][0])
        return len(asked[-1]) == 2

    table = Table(value, monkeypatch, fold)
    monkeypatch.setattr(Search, "_scored", scored)
    way = table.search.grown("found", 4, until=ends)
    assert asked == [{c}, {a, b}]
    assert way.list(2) == {a, b}
    assert max(way.lists) == 2


def test_of_what_is_as_good_that_which_changes_less_is_taken(fold: Fold) -> None:
    steps = [
        Step(cell, True, frozenset({cell}), gain=gain)
        for cell, gain in zip(fold.cells.every, (1.0, 0.9995, 0.9), strict=False)
    ]
    search = search_of(fold)
    changes = {steps[0].kept: 5.0, steps[1].kept: 3.0, steps[2].kept: 1.0}
    whole = fold.whole_of(fold.anchors)
    scaled = [replace(step, gain=step.gain * whole) for step in steps]
    exact = lambda lists: [(np.zeros(5), np.full(5, changes[kept])) for kept in lists]  # noqa: E731
    exact.fold = fold  # type: ignore[attr-defined]
    search.exact = exact  # type: ignore[assignment]
    assert search._best(scaled, None).cell == steps[1].cell


def test_begun_again_nothing_is_measured_twice(fold: Fold, tmp_path: Path) -> None:
    whole = search_of(fold)
    expected = whole.grown("found", 5)

    class KilledError(Exception):
        """Where somebody stops it."""

    seen: list[Step] = []

    def watch(_: str, step: Step) -> None:
        seen.append(step)
        if len(seen) == 3:
            raise KilledError

    path = tmp_path / "record.jsonl"
    first = search_of(fold, path, watch=watch)
    with pytest.raises(KilledError):
        first.grown("found", 5)
    with path.open("a") as file:
        file.write('{"list": "search: half of a li')
    second = search_of(fold, path)
    assert second.record.found == first.exact.count
    way = second.grown("found", 5)
    assert [(step.cell, step.added, step.gain) for step in way.steps] == [
        (step.cell, step.added, step.gain) for step in expected.steps
    ]
    assert way.lists == expected.lists
    assert first.exact.count + second.exact.count == whole.exact.count
    third = search_of(fold, path)
    assert third.grown("found", 5).lists == expected.lists
    assert (third.exact.count, third.screens) == (0, 1)  # to see that nothing of the last list may go
    for size in (1, 2):  # and no further than a search that knew nothing
        fewer, alone = search_of(fold, path).grown("found", size), search_of(fold).grown("found", size)
        assert max(fewer.lists) <= max(alone.lists)
        assert {at: fewer.lists[at] for at in range(size + 1)} == {at: alone.lists[at] for at in range(size + 1)}
    other = search_of(fold, path, about="another")
    assert (other.record.found, other.record.moves) == (0, {})


@pytest.mark.parametrize("content", ["{", "[]", "null\n", "a letter\n"])
def test_what_no_search_wrote_is_left(tmp_path: Path, content: str) -> None:
    path = tmp_path / "record.jsonl"
    path.write_text(content)
    with pytest.raises(ScrubError, match="no search wrote it"):
        Record(path, {"about": 0})
    assert path.read_text() == content


@pytest.mark.parametrize(
    "content", ["", '{"about": 0}', '{"about": 1}\n', '{"about": 0}\n[1]\n', '{"about": 0}\n{"sums": 1}\n{}\n\x00\n']
)
def test_a_record_that_is_no_record(tmp_path: Path, content: str) -> None:
    path = tmp_path / "record.jsonl"
    path.write_text(content)
    record = Record(path, {"about": 0})
    record.add("one", [np.array([0.1]), np.array([1 / 3])])
    again = Record(path, {"about": 0})
    assert again.numbers == {"one": [[0.1], [1 / 3]]}


def test_a_record_that_can_t_be_kept_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path, tmp_path / "file" / "record"):
        with pytest.raises(ScrubError, match="can't be written"):
            Record(path, {})


def test_what_has_no_gradient_is_measured_whole() -> None:
    """Targets are what the model says, so that the baseline is worse."""
    model = model_of("attn")
    made = text(model)
    tokens = made.tokens.copy()
    tokens[:, -1] = model(torch.from_numpy(made.inputs))[:, -1].argmax(-1).numpy()
    scored = np.zeros_like(made.scored)
    scored[:, -1] = True
    fold = fold_of(ONE_ENTRY, model, replace(made, tokens=tokens, scored=scored), "accuracy")
    assert fold.whole_of(fold.anchors) > 0
    search = search_of(fold)
    way = search.grown("found", 2)
    assert [*search.notes] == ["accuracy has no gradient: every candidate was measured"]
    assert [step.checked for step in way.steps[:2]] == [18, 17]
    assert all(np.isnan(step.expected) for step in way.steps)


def test_where_to_begin() -> None:
    model = model_of("attn")
    cells = fold_of(WHOLE, model, prompts(model), "kl", cells={"depth": 1}).cells
    check_start(cells, frozenset(), 10)
    for start, size, says in [(0, 11, "from 1 to 10"), (0, 0, "from 1 to 10"), (4, 4, "has 4 cells already")]:
        with pytest.raises(ScrubError, match=says):
            check_start(cells, some(cells, start), size)


def test_it_ends_where_the_stop_fold_gains_nothing() -> None:
    """A cell that gains where the search looks, and nothing on the other fold."""
    names = [Cell("a1.ind/k", f"a0.{at}") for at in range(5)]
    lists = [frozenset(names[:at]) for at in range(6)]
    gains = {
        1: Interval(5, -1, 9),
        2: Interval(4, 2, 6),
        3: Interval(1, -0.1, 2),
        4: Interval(3, 2, 4),
        5: Interval(1, 0.5, 2),
    }

    class Exactly:
        def __call__(self, some_lists: list[Kept]) -> list[tuple[int, int]]:
            return [(len(kept), 0) for kept in some_lists]

        fold = SimpleNamespace(interval=lambda now, last: gains[now] if now == last + 1 else None)

    for stop, until in ((True, 3), (False, 5)):
        ends, way = _Ends(Exactly(), 5, stop), Way(True, {0: (lists[0], 0.0)})  # type: ignore[arg-type]
        for size in range(1, 6):
            way.add(Step(names[size - 1], True, lists[size]), float(size))
            if ends(way):
                break
        assert size == until
        assert ends.size == (2 if stop else 5)
        assert ("cell 3 gains" in ends.why) == stop


def test_a_list_that_was_taken_as_a_whole_is_looked_at_too() -> None:
    """As the first of its size that is asked of; and no size twice, whatever came to it again."""
    names = [Cell("a1.ind/k", f"a0.{at}") for at in range(5)]
    lists = [frozenset(names[:at]) for at in range(4)]
    asked: list[tuple[Kept, Kept]] = []

    class Exactly:
        def __call__(self, some_lists: list[Kept]) -> list[tuple[Kept, int]]:
            return [(kept, 0) for kept in some_lists]

        fold = SimpleNamespace(interval=lambda now, last: asked.append((now, last)) or Interval(len(asked), 0.5, 9))

    ends, way = _Ends(Exactly(), 3, True), Way(True, {0: (lists[0], 0.0)})  # type: ignore[arg-type]
    whole = frozenset(names[3:])
    for kept, value, is_asked in ((lists[1], 1.0, True), (lists[2], 2.0, False), (whole, 3.0, True)):
        way.add(Step(names[0], True, kept, whole=kept == whole), value)
        assert not (is_asked and ends(way))
    assert asked == [(whole, lists[1])]
    way.add(Step(names[0], True, lists[3]), 4.0)
    assert not ends(way)
    way.add(Step(names[0], False, lists[2]), 9.0)
    assert not ends(way)
    assert asked == [(whole, lists[1]), (lists[3], whole)]


def test_more_than_all_is_told() -> None:
    """Where it is sure."""
    for low in (99.9, 100.1):
        last: Any = SimpleNamespace(recovered={"report": Interval(134.2, low, 158.0)}, change=1.83)
        said = _beyond(last, "logits")
        assert len(said) == (low > 100)
        assert all(word in each for each in said for word in ("134.2 %", "1.83 logits", "metric kl"))


@pytest.mark.parametrize(
    ("candidates", "checked", "first", "measured"),
    [
        *((2, 4, 2, 2), (5, 4, 3, 3), (27, 4, 3, 3), (31, 4, 4, 4), (50, 4, 4, 5), (99, 4, 4, 8)),
        *((99, 12, 10, 10), (300, 12, 12, 24), (27, None, 27, 27)),
    ],
)
def test_how_many_are_measured(
    fold: Fold, monkeypatch: pytest.MonkeyPatch, candidates: int, checked: int | None, first: int, measured: int
) -> None:
    """So many, then as many more if they are expected to be better, of few a tenth in all, but three at least."""
    cells = [Cell("a1.ind/k", f"a0.{at}") for at in range(candidates)]
    asked: list[int] = []

    def found(_: Search, now: Kept, order: Sequence[tuple[Cell, float]], __: None, added: bool) -> list[Step]:
        asked.append(len(order))
        return [Step(cell, added, now | {cell}, expected, worth * expected) for cell, expected in order]

    monkeypatch.setattr(Search, "_order", lambda *_: [(cell, 9.0) for cell in cells])
    monkeypatch.setattr(Search, "_measured", found)
    monkeypatch.setattr(Search, "_best", lambda _, steps, __: max(steps, key=lambda step: step.gain))
    search = search_of(fold, checked=checked)
    for worth in (0.5, 1.0):  # of what is expected
        asked.clear()
        step = search._next(frozenset(), None, (), True)
        assert step is not None
        assert asked[0] == first
        assert sum(asked) == step.checked == (measured if worth < 1 else first)
