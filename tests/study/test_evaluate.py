"""The evaluator: whatever is measured passes the gates first, once for each basis, and is what its metric says."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from project import tiny_model
from small import split_roles

import scrub.plan.memory
import scrub.plan.runner
import scrub.study.evaluate
import scrub.study.settings
from scrub.data.examples import Examples
from scrub.graph.node import Node, node
from scrub.graph.ops import OPS
from scrub.models.model import Model
from scrub.paths.cut import Cut
from scrub.paths.rules import Rule
from scrub.paths.sources import Y
from scrub.paths.splits import Split
from scrub.plan.memory import peak_bytes
from scrub.study.binding import Sizes
from scrub.study.draws import pair_up
from scrub.study.evaluate import Evaluation, Evaluator, evaluate
from scrub.study.experiments import UNSCRUBBED, Experiment, Experiments, Name, build
from scrub.study.gates import check_gates
from scrub.study.metric import LOGIT, LOSS, Metric, studied
from scrub.study.settings import Settings
from scrub.text.errors import GateError, ScrubError

COUNT, POSITIONS = 13, 11
SETTINGS = Settings(dtype="float64", progress=False, batch=3)
RULES = ("a1.ind/k/** -> y", "a0.prev -> y", "** -> y", "a1.ind/v/emb -> y", "a0.self -> zero", "a0.prev -> mean")


@pytest.fixture(scope="module")
def model() -> Model:
    return tiny_model()


@pytest.fixture(scope="module")
def examples() -> Examples:
    """Examples of which each has its own number of scored positions, one of them none."""
    tokens = np.random.default_rng(1).integers(1, 31, (COUNT, POSITIONS + 1))
    return Examples(tokens, np.arange(POSITIONS)[None] < np.random.default_rng(2).permutation(COUNT)[:, None])


def experiments(model: Model, *rules: str) -> Experiments:
    split = split_roles(model.graph, model.roles)
    scrubbed = (build(Name(rule), Cut(split), [Rule.parse(rule)]) for rule in rules)
    return Experiments(build(UNSCRUBBED, Cut(split)), tuple(scrubbed))


@pytest.fixture
def passed(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The names of the experiments that passed the gates, each time that some did."""
    found: list[list[str]] = []

    def checked(of: Experiments, *arguments: Any) -> Any:
        found.append([str(each) for each in of.names[1:]])
        return check_gates(of, *arguments)

    monkeypatch.setattr(scrub.study.evaluate, "check_gates", checked)
    monkeypatch.setattr(scrub.study.settings, "USUAL_POSITIONS", POSITIONS)
    return found


def unlikely(logits: Node, _: Node) -> Node:
    """How far the target's logit is below the mean of all."""
    return node("sub", node("mean_logit", logits), node("pick", logits, node("target")))


def test_a_metric_of_ones_own_beside_the_loss(model: Model, examples: Examples, passed: list[list[str]]) -> None:
    """In sums and at every position, against plain torch on what the model itself gives."""
    own = Metric("unlikely", "logits", unlikely)
    found = evaluate(model, experiments(model, "** -> y"), examples, [LOSS, own], SETTINGS, values_of=["unlikely"])
    x = torch.from_numpy(examples.tokens)
    other = x[pair_up(examples, experiments(model, "** -> y").draws).partners[Rule.parse("** -> y").source]]
    for name, inputs in ((UNSCRUBBED, x), ("** -> y", other)):
        logits = model(inputs[:, :-1])
        target = x[:, 1:, None]
        wanted = (logits.mean(-1) - logits.gather(-1, target)[..., 0]).numpy()
        losses = -logits.log_softmax(-1).gather(-1, target)[..., 0].numpy()
        assert np.allclose(found.values["unlikely", name], wanted[examples.scored], rtol=0, atol=1e-11)
        assert np.allclose(found.sums["unlikely", name], (wanted * examples.scored).sum(1), rtol=0, atol=1e-11)
        assert np.allclose(found.sums["loss", name], (losses * examples.scored).sum(1), rtol=0, atol=1e-11)
    assert found.rows("unlikely").shape == (2, int(examples.scored.sum()))
    assert set(found.values) == {("unlikely", UNSCRUBBED), ("unlikely", "** -> y")}
    assert passed == [["** -> y"]]


@pytest.mark.usefixtures("passed")
def test_some_examples_in_any_order_are_what_they_are_among_all(model: Model, examples: Examples) -> None:
    of = experiments(model, *RULES)
    made, pairing = Evaluator(model, of, studied(), SETTINGS), pair_up(examples, of.draws)
    every = made(pairing, values_of=["loss", "kl"])
    members = np.array([7, 2, 11, 0, 5])
    some = made(pairing, members, values_of=["loss", "kl"])
    starts = np.concatenate([[0], examples.counts.cumsum()])
    at = np.concatenate([np.arange(starts[each], starts[each + 1]) for each in members])
    for key, sums in every.sums.items():
        assert np.allclose(some.sums[key], sums[members], rtol=0, atol=1e-12)
    for key, values in every.values.items():
        assert np.allclose(some.values[key], values[at], rtol=0, atol=1e-12)


def test_experiments_of_many_plans_are_those_of_one(
    model: Model, examples: Examples, passed: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    of = experiments(model, *RULES)
    together = evaluate(model, of, examples, studied(), SETTINGS)
    monkeypatch.setattr(scrub.study.evaluate, "PLAN_EXPERIMENTS", 4)
    apart = evaluate(model, of, examples, studied(), SETTINGS)
    assert passed == [list(RULES), list(RULES[:4]), list(RULES[4:])]
    assert apart.names == together.names
    assert apart.sums.keys() == together.sums.keys()
    assert all(np.allclose(apart.sums[key], together.sums[key], rtol=0, atol=1e-12) for key in apart.sums)
    assert apart.gates.warnings == together.gates.warnings
    assert apart.gates.deviations.keys() == together.gates.deviations.keys()


def test_no_number_without_the_gates(model: Model, examples: Examples, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mask that reads a little too much changes numbers, and nothing comes out."""
    split = build(Name("h"), Cut(split_masked(model)), [Rule.parse("a0.prev[previous]/v -> y")])
    of = Experiments(experiments(model).unscrubbed, (split,))
    whole = OPS["attend_masked"]
    run = whole.run
    assert run is not None
    off = replace(whole, run=lambda *inputs, **static: run(*inputs, **static) + 1e-3)
    monkeypatch.setitem(OPS, "attend_masked", off)
    made = Evaluator(model, of, [LOSS], SETTINGS)
    for _ in range(2):  # nor the second time
        with pytest.raises(GateError, match="gives another loss"):
            made(pair_up(examples, of.draws))
    with pytest.raises(GateError, match="gives another loss"):
        made.receipt(pair_up(examples, of.draws))


def split_masked(model: Model) -> Node:
    return Split.parse('a0.prev by mask "previous"').apply(split_roles(model.graph, model.roles), model.roles)


# receipts


def receipt_of(model: Model, examples: Examples, *rules: str, settings: Settings = SETTINGS) -> Any:
    of = experiments(model, *rules)
    return Evaluator(model, of, [LOSS], settings).receipt(pair_up(examples, of.draws))


def test_gates_pass_once_for_all_pairings(model: Model, examples: Examples, passed: list[list[str]]) -> None:
    of = experiments(model, *RULES[:2])
    made = Evaluator(model, of, [LOSS], SETTINGS)
    first, second = (pair_up(examples, of.draws, seed=seed) for seed in (0, 1))
    assert made(first).gates is made(second).gates is made.check(first)
    assert made.receipt(first).gates is made(first).gates
    assert passed == [list(RULES[:2])]


def test_a_receipt_spares_the_gates_of_what_it_covers(
    model: Model, examples: Examples, passed: list[list[str]]
) -> None:
    """All of its experiments or some, whatever they are called, what is measured, and in which pairing."""
    receipt = receipt_of(model, examples, *RULES)
    bare = evaluate(model, experiments(model, *RULES[3:]), examples, [LOSS], SETTINGS)
    del passed[:]
    some = experiments(model, *RULES[3:])
    found = evaluate(model, some, examples, [LOSS, LOGIT], SETTINGS, receipt=receipt)
    assert found.gates is receipt.gates
    assert all(np.array_equal(found.sums[key], bare.sums[key]) for key in bare.sums)
    renamed = replace(some, scrubbed=tuple(replace(each, name=Name(f"my {each.name}")) for each in some.scrubbed))
    evaluate(model, renamed, examples, [LOSS], replace(SETTINGS, seed=5, batch=1), receipt=receipt)
    assert passed == []


def other_weights(model: Model) -> Model:
    changed = model.params["layers.0.wv"].clone()
    changed[1, 0, 0] += 1e-9
    return replace(model, params={**model.params, "layers.0.wv": changed})


def other_tokens(of: Examples) -> Examples:
    tokens = of.tokens.copy()
    tokens[-1, -1] = 1 + tokens[-1, -1] % 30
    return replace(of, tokens=tokens)


def other_positions(of: Examples) -> Examples:
    return of.later(1)


NOT_COVERED: dict[str, Callable[[Model, Examples], tuple[Model, Examples, str, Settings]]] = {
    "another experiment": lambda m, e: (m, e, "a0.prev/v -> y", SETTINGS),
    "held elsewhere": lambda m, e: (m, e, "a1.ind -> zero", SETTINGS),
    "held at another value": lambda m, e: (m, e, "a0.self -> mean", SETTINGS),
    "other weights": lambda m, e: (other_weights(m), e, RULES[4], SETTINGS),
    "other tokens": lambda m, e: (m, other_tokens(e), RULES[4], SETTINGS),
    "other positions": lambda m, e: (m, other_positions(e), RULES[4], SETTINGS),
    "others": lambda m, e: (m, replace(e, other=e.tokens[::-1].copy()), RULES[4], SETTINGS),
    "another dtype": lambda m, e: (m, e, RULES[4], replace(SETTINGS, dtype="float32")),
}


@pytest.mark.parametrize("case", NOT_COVERED)
def test_a_receipt_spares_nothing_else(model: Model, examples: Examples, passed: list[list[str]], case: str) -> None:
    receipt = receipt_of(model, examples, *RULES)
    loaded, on, rule, settings = NOT_COVERED[case](model, examples)
    found = evaluate(loaded, experiments(loaded, RULES[0], rule), on, [LOSS], settings, receipt=receipt)
    assert passed[1:] == [[RULES[0], rule]]
    assert found.gates is not receipt.gates


def test_a_receipt_of_experiments_that_look_alike(model: Model, examples: Examples, passed: list[list[str]]) -> None:
    """What is held there stands for other heads, and nothing else tells the two graphs apart."""

    def kept(head: int) -> Experiments:
        of = build_with(model, f"a0 by heads {head}", f"a0.{head} -> mean", "a0.rest -> zero")
        return Experiments(build(UNSCRUBBED, Cut(model.graph)), (of,))

    pairing = pair_up(examples, kept(1).draws)
    receipt = Evaluator(model, kept(1), [LOSS], SETTINGS).receipt(pairing)
    evaluate(model, kept(1), examples, [LOSS], SETTINGS, receipt=receipt)
    assert len(passed) == 1
    evaluate(model, kept(2), examples, [LOSS], SETTINGS, receipt=receipt)
    assert len(passed) == 2


def build_with(model: Model, split: str, *rules: str) -> Experiment:
    before = Split.parse(split).apply(model.graph, model.roles)
    return build(Name("h"), Cut(before), [Rule.parse(rule) for rule in rules])


# what goes wrong


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("[enforce fail] . DefaultCPUAllocator: can't allocate memory")]
)
@pytest.mark.usefixtures("passed")
def test_too_large_a_batch_is_one_clear_line(
    model: Model, examples: Examples, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def full(*_: Any, **__: Any) -> Any:
        raise error

    of = experiments(model, RULES[0])
    made, pairing = Evaluator(model, of, [LOSS], SETTINGS), pair_up(examples, of.draws)
    made.check(pairing)
    for at in ("bind", "_Totals.add"):  # where a batch is made, and where what was measured of it is kept
        with monkeypatch.context() as patched:
            patched.setattr(f"scrub.study.evaluate.{at}", full)
            with pytest.raises(ScrubError, match="a batch of 3 sequences needs more memory than there is"):
                made(pairing)


def test_other_errors_stay_what_they_are(model: Model, examples: Examples, monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(*_: Any, **__: Any) -> Any:
        raise RuntimeError("shapes")

    of = experiments(model, RULES[0])
    made, pairing = Evaluator(model, of, [LOSS], SETTINGS), pair_up(examples, of.draws)
    made.check(pairing)
    monkeypatch.setattr(scrub.study.evaluate, "bind", wrong)
    with pytest.raises(RuntimeError, match="shapes"):
        made(pairing)


def test_a_name_is_its_text(model: Model) -> None:
    name = Name("naive", "q")
    assert (name, name.hypothesis, name.part) == ("naive/q", "naive", "q")
    assert {name: 1}["naive/q"] == 1
    copied = pickle.loads(pickle.dumps(name))
    assert (copied, copied.hypothesis, copied.part) == ("naive/q", "naive", "q")
    assert (Name("baseline"), Name("baseline").part) == ("baseline", "")
    assert experiments(model, *RULES).only([RULES[2]]).names == [UNSCRUBBED, RULES[2]]


@pytest.mark.usefixtures("passed")
@pytest.mark.parametrize("batch", [1, 3])  # one of them is all of examples without scored positions
def test_filling_up_changes_no_number(
    model: Model, examples: Examples, monkeypatch: pytest.MonkeyPatch, batch: int
) -> None:
    """As on a card, where all batches have the same shapes: examples, scored positions and donors are filled up."""
    of = experiments(model, *RULES, "a1.ind/{q,k}/** -> rows like token", "a1.ind/v/** -> like first")
    classes = {"token": lambda tokens, _: tokens % 7, "first": lambda tokens, _: tokens[:, 0] % 2}
    pairing = pair_up(examples, of.draws, classes, model.tokenizer)
    wanted = Evaluator(model, of, studied(), SETTINGS)(pairing, values_of=["loss", "kl"])
    shapes = []

    def watched(*arguments: Any, **more: Any) -> Any:
        bound, real = bind(*arguments, **more)
        shapes.append({leaf: value.shape for leaf, value in bound.items()})
        places = list(map(tuple, bound[node("rows")][:2].T.tolist()))
        own = set(places[: int(real.sum())])
        assert len(own) == real.sum()
        assert own.isdisjoint(places[len(own) :]), "which is written last would be chance"
        return bound, real

    bind = scrub.study.evaluate.bind
    monkeypatch.setattr(scrub.study.evaluate, "bind", watched)
    monkeypatch.setattr(scrub.plan.runner.Place, "on_card", True)
    monkeypatch.setattr(scrub.plan.runner, "Replay", lambda run: run)
    monkeypatch.setattr(scrub.plan.runner.Place, "current", lambda _: nullcontext())
    made = Evaluator(model, of, studied(), replace(SETTINGS, batch=batch))
    found = made(pairing, values_of=["loss", "kl"])
    for members in (pairing.order[3:6], pairing.order[10:]):  # a block of a sweep has the shapes of all
        some = made(pairing, members)
        assert all(np.allclose(some.sums[key], found.sums[key][members], rtol=0, atol=1e-12) for key in found.sums)
    assert len(shapes) == {1: COUNT + 6, 3: 7}[batch]
    assert made._runner(0, pairing).place.calls == -(-COUNT // batch)  # of all, whichever were measured
    assert all(each == shapes[0] for each in shapes[:-1])  # the last one's batches begin elsewhere
    for one, other in ((found.sums, wanted.sums), (found.values, wanted.values)):
        assert one.keys() == other.keys()
        assert all(np.allclose(one[key], other[key], rtol=0, atol=1e-12) for key in one)


def test_one_shape_for_all_batches_of_several_pairings() -> None:
    joined = Sizes.joined([Sizes(3, 11, 5, {Y: 2}), Sizes(2, 7, 13, {Y: 17}), Sizes(1, 8, 6, {Y: 4})])
    assert joined == Sizes(3, 11, 13, {Y: 17})


@pytest.mark.usefixtures("passed")
def test_a_batch_is_as_large_as_there_is_room_for(
    model: Model, examples: Examples, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a card, where its memory decides, unless somebody did."""
    of, open_to_all = experiments(model, *RULES), replace(SETTINGS, batch=None)
    pairing = pair_up(examples, of.draws)
    monkeypatch.setattr(scrub.plan.memory, "SMALL", (2, 4))

    def measured(room: int) -> Evaluation:
        monkeypatch.setattr(scrub.plan.runner.Place, "bytes_for_a_batch", room)
        return Evaluator(model, of, studied(), open_to_all)(pairing)

    runner = Evaluator(model, of, studied(), SETTINGS)._runner(0, pairing)
    room = peak_bytes(runner, scrub.study.evaluate.bind(runner.leaves, pairing, pairing.order[:10])[0])
    found = measured(room)
    assert found.computed.batch is not None
    assert 7 <= found.computed.batch <= 10
    assert measured(1 << 40).computed.batch == COUNT
    assert measured(1).computed.batch == 1
    other = Evaluator(model, of, studied(), SETTINGS)(pairing)
    assert other.computed.batch is None
    assert all(np.allclose(found.sums[key], other.sums[key], rtol=0, atol=1e-11) for key in other.sums)


@pytest.mark.parametrize(("device", "there"), [("cuda:1", 2), ("cuda", 1)])
def test_devices_have_numbers(monkeypatch: pytest.MonkeyPatch, device: str, there: int) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: there)
    assert Settings(device=device).where == device
    with pytest.raises(ScrubError, match="'cuda:2'"):
        _ = Settings(device="cuda:2").where
    with pytest.raises(ScrubError, match="'cuda:one'"):
        Settings(device="cuda:one")
