"""A run depends on nothing but its seed: not on the batch, not on what else runs. Its anchors are exact."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from project import COLUMNS, N_CTX, ROWS
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import scrub.plan.runner
import scrub.study.binding
import scrub.study.evaluate
import scrub.study.settings
from scrub.paths.sources import RowsLike, Y
from scrub.plan.runner import Place
from scrub.study.binding import Sizes
from scrub.study.hypothesis import Hypothesis
from scrub.study.result import Result
from scrub.study.run import Trial, prepare, run
from scrub.study.settings import Settings
from scrub.text.errors import ScrubError

SEQUENCES = 29
KEEP_NOTHING = "q a1.ind/q/** -> y\nk a1.ind/k/** -> y\nv a1.ind/v/** -> y"
SPLITS = """
splits  a1.ind/q/a0.self    by identity
        a1.ind/{k,v}/a0.*   by mask "last three"
"""


def settings(**changes: Any) -> Settings:
    return Settings(**{"sequences": SEQUENCES, "dtype": "float64", "batch": 16, "progress": False} | changes)


@pytest.fixture(scope="module")
def trials(project: object) -> Callable[[str], Trial]:
    """The study, made ready once in each dtype."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(str(project))
        ready = {dtype: prepare("induction", settings=settings(dtype=dtype)) for dtype in ("float64", "float32")}
    return ready.__getitem__


@pytest.fixture
def batches_are_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch counts these short sequences: else many of them are computed for one."""
    monkeypatch.setattr(scrub.study.settings, "USUAL_POSITIONS", N_CTX)


def again(trial: Trial, **changes: Any) -> Result:
    return replace(trial, settings=replace(trial.settings, **changes)).run()


def numbers(result: Result) -> np.ndarray:
    """Every sum of every sequence, in nats: [measure and experiment, sequence]."""
    return np.stack([sums for of in (result.loss, result.change, result.kl) for sums in of.values()])


@pytest.mark.usefixtures("open_gates", "batches_are_exact")
def test_all_draws_have_one_shape_on_a_card(trials: Callable[[str], Trial], monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a plan is captured once for all; and no number changes."""
    trial = trials("float64")
    wanted, shapes, known = again(trial, draws=3, batch=5), [], []

    def watched(run: Callable[..., Any]) -> Callable[..., Any]:
        known.append(run)

        def launched(bound: Any) -> Any:
            shapes.append({leaf: value.shape for leaf, value in bound.items()})
            return run(bound)

        return launched

    monkeypatch.setattr(Place, "on_card", True)
    monkeypatch.setattr(Place, "current", lambda _: nullcontext())
    monkeypatch.setattr(scrub.plan.runner, "Replay", watched)
    found = again(trial, draws=3, batch=5)
    assert len(shapes) == 3 * -(-SEQUENCES // 5)
    assert all(each == shapes[0] for each in shapes)
    assert len(known) == 1
    assert np.allclose(numbers(found), numbers(wanted), rtol=0, atol=1e-11)
    alone = [Sizes.over(shapes[0], trial.pairing(draw), list(trial.pairing(draw).batches(5))) for draw in range(3)]
    assert len({(each.scored, each.rows, *each.donors.values()) for each in alone}) > 1  # each by itself has others
    again(trial, draws=1, batch=5)  # six batches are too few
    assert len(known) == 1


@pytest.mark.usefixtures("open_gates", "batches_are_exact")
@pytest.mark.parametrize(
    ("dtype", "allowed", "sizes"), [("float64", 1e-6, (1, 7, 1000)), ("float32", 1e-4, (3, 13, SEQUENCES - 1))]
)
def test_the_batch_makes_no_difference(
    trials: Callable[[str], Trial], dtype: str, allowed: float, sizes: tuple[int, ...]
) -> None:
    """Batches of one, primes, all and more than all, of experiments that draw rows from donors too."""
    trial = trials(dtype)
    assert RowsLike("typicality") in trial.experiments.draws
    one = again(trial, batch=SEQUENCES)
    for size in sizes:
        other = again(trial, batch=size)
        positions = np.maximum(one.positions, 1)
        assert np.abs((numbers(other) - numbers(one)) / positions).max() < allowed, size
        assert other.table[3].loss.estimate == pytest.approx(one.table[3].loss.estimate, abs=allowed)
        assert other.table[3].recovered.low == pytest.approx(one.table[3].recovered.low, abs=1000 * allowed)


@pytest.mark.usefixtures("open_gates")
def test_the_dtype_makes_little_difference(trials: Callable[[str], Trial]) -> None:
    full, half = again(trials("float64")), again(trials("float32"))
    gap = np.abs(numbers(full) - numbers(half)).max()
    assert 1e-9 < gap < 1e-3


@pytest.mark.usefixtures("open_gates")
def test_equal_seeds_give_equal_results() -> None:
    texts = [run("induction", settings=settings(seed=seed, dtype="float32")).to_json() for seed in (5, 5, 6)]
    assert texts[0] == texts[1]
    assert texts[0].replace('"seed": 5', '"seed": 6') != texts[2]


@pytest.mark.usefixtures("open_gates")
def test_what_else_runs_makes_no_difference() -> None:
    """One hypothesis, or one part, gives the numbers that it gives among all: the pairs are the same."""
    among = run("induction", settings=settings())
    for wanted, parts in (("induction/refined_5", None), ("induction", ("k",)), ("induction/naive", ("q", "all"))):
        alone = run(wanted, settings=settings(parts=parts))
        assert len(alone.rows) < len(among.rows)
        for name in alone.loss:
            assert np.allclose(alone.loss[name], among.loss[name], rtol=0, atol=1e-9), name


@pytest.mark.usefixtures("open_gates")
def test_draws_are_averaged(trials: Callable[[str], Trial]) -> None:
    """The sums of three draws are those of three runs, one a draw, and the labels stay the reference's."""
    trial = trials("float64")
    three = again(trial, draws=3)

    class Only(Trial):
        number = 0

        def pairing(self, draw: int) -> Any:  # noqa: ARG002
            return trial.pairing(self.number)

    runs = []
    for number in range(3):
        single = Only(**{field: getattr(trial, field) for field in trial.__dataclass_fields__})
        object.__setattr__(single, "number", number)
        runs.append(single.run())
    for name, sums in three.loss.items():
        assert np.allclose(sums, sum(each.loss[name] for each in runs), atol=1e-9), name
    assert not np.allclose(runs[0].loss["baseline"], runs[1].loss["baseline"])
    assert np.allclose(runs[0].loss["unscrubbed"], runs[1].loss["unscrubbed"])
    assert three.losses["unscrubbed"].estimate == pytest.approx(runs[0].losses["unscrubbed"].estimate)
    found = three.to_dict()
    assert (found["draws"], found["sequences"]) == (3, SEQUENCES)
    assert found["positions"] == runs[0].to_dict()["positions"] == int(trial.examples.scored.sum())


def scored(*hypotheses: tuple[str, str], dtype: str = "float64") -> Result:
    wanted = [Hypothesis(rules, name=name, study="induction") for name, rules in hypotheses]
    return run(wanted, settings=settings(dtype=dtype))


@pytest.mark.usefixtures("open_gates")
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_keeping_everything_is_100_and_nothing_0(dtype: str) -> None:
    """Exactly: whatever is split on the way, and whatever part of it is looked at."""
    keep_all = KEEP_NOTHING.replace("-> y", "-> x")
    found = scored(
        ("all", keep_all),
        ("all_split", SPLITS + keep_all),
        ("none", KEEP_NOTHING),
        ("none_split", SPLITS + KEEP_NOTHING),
        dtype=dtype,
    )
    by_name = {f"{row.hypothesis}/{row.part}": row for row in found.table}
    for name in ("all", "all_split"):
        for part in ("q", "k", "v", "all"):
            row = by_name[f"{name}/{part}"]
            assert (row.recovered.estimate, row.recovered.low, row.recovered.high) == (100, 100, 100), row
            assert (row.mean_abs_change.estimate, row.kl.estimate) == (0, 0), row
    for name in ("none", "none_split"):
        row = by_name[f"{name}/all"]
        assert (row.recovered.estimate, row.recovered.low, row.recovered.high) == (0, 0, 0), row
        assert row.loss == found.losses["baseline"]
        assert np.array_equal(found.kl[f"{name}/all"], found.kl["baseline"])


@pytest.mark.usefixtures("open_gates")
def test_anchors(trials: Callable[[str], Trial]) -> None:
    """The unscrubbed model is the model; all scrubbed is the model on the other sequence, scored on x's labels."""
    trial = trials("float64")
    found, pairing = again(trial), trial.pairing(0)
    x, selected = torch.from_numpy(trial.examples.tokens), trial.examples.scored
    for name, inputs in (("unscrubbed", x), ("all_scrubbed", x[pairing.partners[Y]])):
        log_p = trial.model(inputs[:, :-1]).log_softmax(-1)
        losses = -log_p.gather(-1, x[:, 1:, None])[..., 0].numpy()
        assert np.allclose(found.loss[name], (losses * selected).sum(1), atol=1e-9), name
    assert np.allclose(found.loss["bigram"], (trial.examples.bigram_losses(trial.model.vocab_size) * selected).sum(1))
    assert (found.recovered("unscrubbed").estimate, found.recovered("baseline").estimate) == (100, 0)
    assert np.array_equal(found.positions, selected.sum(1))


@pytest.mark.usefixtures("open_gates")
def test_all_positions_or_the_whitelist() -> None:
    some = run("induction/naive", settings=settings(parts=("q",)))
    every = run("induction/naive", settings=settings(parts=("q",), positions="all"))
    assert every.to_dict()["positions"] == SEQUENCES * 11
    assert 0 < some.to_dict()["positions"] < SEQUENCES * 11
    assert every.losses["unscrubbed"].estimate != some.losses["unscrubbed"].estimate


class Watch(TorchDispatchMode):
    """Counts the bytes of the tensors that are made while it is on."""

    def __init__(self) -> None:
        super().__init__()
        self.alive: weakref.WeakValueDictionary[int, torch.Tensor] = weakref.WeakValueDictionary()
        self.made = self.peak = self.calls = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for each in tree_leaves(out):
            if isinstance(each, torch.Tensor):
                self.alive[id(each)] = each
                self.made += each.nbytes
        self.calls += 1
        if self.calls % 5 == 0:
            self.peak = max(self.peak, self.now())
        return out

    def now(self) -> int:
        """Those that are alive, storages counted once."""
        storages = {each.untyped_storage().data_ptr(): each.untyped_storage() for each in self.alive.values()}
        return sum(each.nbytes() for each in storages.values())


@pytest.mark.usefixtures("open_gates", "batches_are_exact")
def test_memory_is_bounded_by_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing piles up from batch to batch or draw to draw, a batch's values go when they were used, and a larger
    batch needs more.
    """
    peaks = {}
    for batch in (7, 56):
        asked = settings(sequences=56, batch=batch, draws=2, parts=("k",), positions="all")
        trial = prepare("induction/refined_5", settings=asked)
        between: list[int] = []

        def bind(*arguments: Any, watch: Watch, between: list[int] = between, **more: Any) -> Any:
            between.append(watch.now())
            return scrub.study.binding.bind(*arguments, **more)

        with Watch() as watch:
            monkeypatch.setattr(scrub.study.evaluate, "bind", partial(bind, watch=watch))
            trial.run()
        assert len(between) == 2 * 56 / batch
        assert max(between[1:]) < 1.5 * between[1], between  # at the end of the first batch, its outputs are alive
        assert watch.peak - between[0] < watch.made / len(between) / 3
        peaks[batch] = watch.peak
    assert peaks[56] > 2 * peaks[7]


def test_numbers_out_of_range() -> None:
    wrong: Sequence[tuple[dict[str, Any], str]] = [
        ({"sequences": 1}, "sequences is 1, but must be a whole number from 2"),
        ({"sequences": 0}, "sequences is 0"),
        ({"draws": 0}, "draws is 0, but must be a whole number from 1"),
        ({"draws": 10**9}, "draws is 1000000000"),
        ({"seed": -1}, "seed is -1, but must be a whole number from 0 to 4294967295"),
        ({"seed": 2**32}, "seed is 4294967296"),
        ({"batch": 0}, "batch is 0"),
        ({"device": "tpu"}, "there is no device 'tpu': use auto, cpu or cuda"),
        ({"dtype": "int8"}, "there is no dtype 'int8': use one of float32, float64, bfloat16"),
        (
            {"positions": "some of them"},
            r"positions are .whitelist., .repeats., .all. or spans such as 4..7,-1 .*not .some of them.",
        ),
        ({"parts": ()}, "no part was named"),
    ]
    for changes, message in wrong:
        with pytest.raises(ScrubError, match=message):
            settings(**changes)


def test_a_batch_of_short_sequences_has_more() -> None:
    assert [settings(batch=8).at_once(positions) for positions in (11, 150, 300, 301, 1024)] == [216, 16, 8, 8, 8]


def test_too_few_sequences() -> None:
    with pytest.raises(ScrubError, match=rf"hold \d\d different sequences of 11 tokens, but {ROWS + 1} were asked for"):
        prepare("induction", settings=settings(sequences=ROWS + 1))


def test_a_trial_shows_and_plans(trials: Callable[[str], Trial]) -> None:
    trial = trials("float64")
    assert "a0.prev[previous]" in trial.show("naive", "k").text()
    assert str(trial.plan()).count("\n") > 100
    with pytest.raises(ScrubError, match=r"there is no experiment naive/z: there are naive/q"):
        trial.show("naive", "z")


@pytest.mark.usefixtures("open_gates")
def test_results_in_a_notebook() -> None:
    result = run("induction/naive", settings=settings())
    frame = result.frame()
    assert list(frame.columns) == COLUMNS
    assert list(frame.part) == ["q", "k", "v", "all"]
    assert "naive" in result._repr_html_()
