"""Prompts of several lengths, named positions, and y as a mean, against each row alone and a plain oracle."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from project import tiny_model
from safetensors.numpy import load

import scrub
from scrub.data.examples import PROMPTS, Examples
from scrub.graph.node import Node, walk
from scrub.graph.ops import OPS
from scrub.models.model import Model
from scrub.paths.rules import held, held_by
from scrub.paths.sources import Like, RowsLike, X, Y
from scrub.study.draws import pair_up
from scrub.study.held import averaged, held_values, stands_for
from scrub.study.pairs import pairs_file
from scrub.text.errors import GateError, ScrubError

EXACT = scrub.Settings(dtype="float64", progress=False)
ROWS, LONGEST, VOCAB = 23, 11, 31


@pytest.fixture(scope="module")
def model() -> Model:
    return tiny_model()


def prompts(seed: int = 0, pairs: bool = True, rows: int = ROWS, pad: int = 0) -> Examples:
    """Random prompts of several lengths, scored at their ends, with a name that stands at different positions."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(LONGEST - 3, LONGEST + 1, rows)
    tokens, other = (rng.integers(1, VOCAB, (rows, LONGEST + 1)) for _ in range(2))
    behind = np.arange(LONGEST + 1)[None] > lengths[:, None]
    ends = np.arange(rows), lengths
    other[ends] = tokens[ends]
    tokens[behind] = other[behind] = pad
    return Examples(
        tokens,
        np.arange(LONGEST)[None] == lengths[:, None] - 1,
        PROMPTS,
        "made",
        other=other if pairs else None,
        positions={"S2": rng.integers(2, 5, rows)},
        lengths=lengths,
        other_lengths=lengths if pairs else None,
        answers=tokens[ends][:, None],
        wrong=rng.integers(1, VOCAB, (rows, 2)),
    )


def study(rules: str, **about: object) -> scrub.Study:
    hypothesis = scrub.Hypothesis(rules, name="h")
    return scrub.Study(baseline="** -> y", hypotheses=(hypothesis,), model="tiny", positions="end", **about)  # type: ignore[arg-type]


def naive(model: Model, graph: Node, bound: dict[str, torch.Tensor]) -> torch.Tensor:
    """The value of a graph, every node computed by itself."""
    values: dict[Node, torch.Tensor] = {}
    for each in walk([graph]):
        if each.op == "param":
            values[each] = model.params[str(each.arguments["name"])]
        elif each.op == "position":
            values[each] = torch.arange(bound["x"].shape[1])[None]
        elif each.op == "tokens":
            values[each] = bound[str(each.arguments["source"])]
        elif OPS[each.op].run is None:
            values[each] = bound[f"{each.op} {each.arguments.get('positions', '')}".strip()]
        else:
            values[each] = OPS[each.op].function()(*(values[i] for i in each.inputs), **each.arguments)
    return values[graph]


def test_a_batch_of_unequal_prompts_gives_what_each_gives_alone(model: Model) -> None:
    """Whatever the pads are, and with rules that name positions: to 1e-9, for loss and difference of logits."""
    examples, rules = prompts(), "splits a1 by positions S2..end\nv a1[S2..end]/v/** -> y\n  **/a0/k/** -> y"
    for metric in ("loss", "logit_diff"):
        of = scrub.study.metric.METRICS[metric]
        together = scrub.run(study(rules), model, examples, EXACT, metric=of)
        padded = scrub.run(study(rules), model, prompts(pad=7), EXACT, metric=of)
        for row in range(3):
            length = int(examples.lengths[row])  # type: ignore[index]
            alone = scrub.prepare(study(rules), model, two_of(examples, row, length), EXACT, metric=of).evaluator()
            one = scrub.prepare(study(rules), model, two_of(examples, row, length), EXACT, metric=of)
            found = alone(one.pairing(0)).sums
            for name in ("h/v", "baseline"):
                assert together.loss[name][row] == pytest.approx(found["loss", name][0], abs=1e-9)
                assert together.loss[name][row] == pytest.approx(padded.loss[name][row], abs=1e-9)


def two_of(examples: Examples, row: int, length: int) -> Examples:
    """One row without its pads, and the same again, since a study wants two."""
    some = examples.some(np.array([row, row]))
    assert some.other is not None
    return replace(
        some,
        tokens=some.tokens[:, : length + 1],
        other=some.other[:, : length + 1],
        scored=some.scored[:, :length],
        lengths=None,
        other_lengths=None,
    )


@pytest.mark.parametrize("text", ["S2", "S2..end", "-2..-1", "S2-1..S2+1", "end", "0..S2, end-1"])
def test_named_positions_are_those_of_each_row(model: Model, text: str) -> None:
    """A split by positions of a name, against one by the numbers that the name means in that row."""
    examples = prompts(rows=3)
    of = scrub.study.metric.METRICS["logit_diff"]

    def at(spans: str, which: Examples) -> scrub.Result:
        rules = f"splits **/a0 by positions {spans}\nv **/a0[{spans}]/** -> y"
        return scrub.run(study(rules), model, which, EXACT, metric=of)

    named = at(text, examples)
    where = examples.at(text)
    for row in range(len(examples)):
        numbers = ",".join(map(str, np.flatnonzero(where[row])))
        some = two_of(examples, row, int(examples.lengths[row]))  # type: ignore[index]
        by_number = replace(some, positions={})
        found = scrub.prepare(
            study(f"splits **/a0 by positions {numbers}\nv **/a0[{numbers}]/** -> y"),
            model,
            by_number,
            EXACT,
            metric=of,
        )
        assert found.run().loss["h/v"][0] == pytest.approx(named.loss["h/v"][row], abs=1e-9)


def test_a_name_that_is_not_there_and_one_that_a_row_lacks(model: Model) -> None:
    examples = prompts()
    with pytest.raises(ScrubError, match=r"names that the data give, here S2, end, and not 'IO'"):
        scrub.run(study("v a1/v/** -> y"), model, examples, replace(EXACT, positions="IO"))
    with pytest.raises(ScrubError, match=r"the data give no position the name 'IO': the names are S2, end"):
        scrub.run(study("splits a1 by positions IO\nv a1[IO]/** -> y"), model, examples, EXACT)
    lacking = examples.positions["S2"].copy()
    lacking[5] = -1
    with pytest.raises(ScrubError, match=r"row 5 of made has no position 'S2'"):
        scrub.run(
            study("splits a1 by positions S2\nv a1[S2]/** -> y"),
            model,
            replace(examples, positions={"S2": lacking}),
            EXACT,
        )
    lengths = examples.lengths
    assert lengths is not None
    longer = replace(examples, other_lengths=np.where(np.arange(ROWS) == 4, lengths + 1, lengths))
    with pytest.raises(
        ScrubError, match=r"row 4 of made has \d+ tokens and its other \d+: rules name the positions S2"
    ):
        scrub.run(study("splits a1 by positions S2\nv a1[S2]/** -> y"), model, longer, EXACT)
    shorter = replace(examples, other_lengths=np.where(np.arange(ROWS) == 4, lengths - 1, lengths))
    with pytest.raises(ScrubError, match=r"row 4 of made has \d+ tokens, and its other only \d+"):
        scrub.run(study("v a1/v/** -> y"), model, shorter, EXACT)


def test_rows_of_donors_have_no_names(model: Model) -> None:
    rules = "splits a1/k/a0 by positions S2\nk a1/k/a0[S2]/{q,k}/** -> rows like parity"
    rows = scrub.Hypothesis(rules, name="h", features={"parity": lambda tokens, _: tokens % 2})
    scrub.prepare(replace(study("v a1/v/** -> y"), hypotheses=(rows,)), model, prompts(), EXACT).run()
    inside = scrub.Hypothesis(
        "splits a1/k/a0/q by positions S2\nk a1/k/a0/{q[S2],q[rest],k}/** -> rows like parity",
        name="h",
        features={"parity": lambda tokens, _: tokens % 2},
    )
    with pytest.raises(ScrubError, match="the positions S2 below are those of the reference"):
        scrub.prepare(replace(study("v a1/v/** -> y"), hypotheses=(inside,)), model, prompts(), EXACT)


def test_given_pairs_and_means_have_one_draw(model: Model) -> None:
    two = replace(EXACT, draws=2)
    with pytest.raises(ScrubError, match=r"2 draws were asked for, but the prompts come with others"):
        scrub.run(study("v a1/v/** -> y"), model, prompts(), two)
    with pytest.raises(ScrubError, match=r"2 draws were asked for, but a mean is over all of them"):
        scrub.run(study("v a1/v/** -> y"), model, prompts(pairs=False), replace(two, other="mean"))


@given(seed=st.integers(0, 100))
@settings(max_examples=25, deadline=None)
def test_others_that_are_drawn_have_the_form_of_their_row(seed: int) -> None:
    """No other, and no donor, is a pad or of another length; named ones share their positions, if each row can."""
    examples = prompts(seed, pairs=False, rows=101)
    features = {"parity": lambda tokens, _: tokens % 2, "last": lambda tokens, _: tokens[:, -1] % 2}
    found = pair_up(examples, [X, Y, RowsLike("parity"), Like("last")], features, seed=seed).partners
    form = list(zip(examples.ends.tolist(), examples.positions["S2"].tolist(), strict=True))
    together = min(form.count(each) for each in form) > 1
    for source in (Y, Like("last")):
        assert (examples.ends[found[source]] == examples.ends).all()
        if together:
            assert (examples.positions["S2"][found[source]] == examples.positions["S2"]).all()
    assert (found[Y] != np.arange(101)).all()
    last = examples.inputs[np.arange(101), examples.ends] % 2
    assert (last[found[Like("last")]] == last).all()
    rows, positions = np.nonzero(examples.real)
    assert examples.real[found[RowsLike("parity")][rows, positions], positions].all()


def test_a_row_that_is_alone_with_its_name_is_told(model: Model) -> None:
    """Only where rules name it: else the others share what they can. A column that nobody shares narrows nothing."""
    examples = prompts(pairs=False, rows=101)
    apart = examples.positions["S2"].copy()
    apart[7] = 0
    lonely = replace(examples, positions={"S2": apart, "row": np.arange(101) % 5})
    scrub.run(study("v a1/v/** -> y"), model, lonely, EXACT)
    with pytest.raises(ScrubError, match="row 7 of made has no other of its length with S2 at the same positions"):
        scrub.run(study("splits a1 by positions S2\nv a1[S2]/v/** -> y"), model, lonely, EXACT)


def test_numbers_do_not_depend_on_what_runs_beside(model: Model, tmp_path: Path) -> None:
    """Nor on whether it is a run or a sweep: the same others are drawn whichever rules name positions."""
    examples = prompts(pairs=False, rows=101)
    named = scrub.Hypothesis("splits **/a0 by positions S2\nv **/a0[S2]/** -> y", name="named")
    plain = scrub.Hypothesis("v a1/v/** -> y", name="plain")
    of = replace(study("v a1/v/** -> y"), hypotheses=(named, plain), metric="logit_diff")
    both = scrub.run(of, model, examples, EXACT)
    alone = scrub.run(replace(of, hypotheses=(plain,)), model, examples, EXACT)
    assert both.digest == alone.digest
    np.testing.assert_array_equal(both.loss["plain/v"], alone.loss["plain/v"])
    swept = (
        scrub.sweep(of, models=model, data=examples, dtype="float64", results=tmp_path, workers=1, progress=False)
        .only()
        .result
    )
    for name in ("named/v", "plain/v"):
        assert swept.interval("loss", name).estimate == pytest.approx(both.interval("loss", name).estimate, abs=1e-9)


def test_what_numbers_rest_on_is_in_the_digest() -> None:
    examples = prompts()
    others = [
        replace(examples, positions={"S2": examples.positions["S2"] + 1}),
        replace(examples, documents=np.arange(ROWS) // 2),
        replace(examples, targets={"mine": examples.tokens[:, 1:]}),
        replace(examples, wrong=None),
        replace(examples, other=None, other_lengths=None),
        replace(examples, other_lengths=examples.ends + 2),
    ]
    text = Examples(examples.tokens, examples.scored, positions={"S2": examples.positions["S2"]})
    others += [text, replace(text, positions={"S2": examples.positions["S2"] + 1})]
    for digests in ([each.digest for each in (examples, *others)], [each.tokens_hash for each in (examples, *others)]):
        assert len(set(digests)) == len(digests)


def test_text_is_paired_as_ever() -> None:
    tokens = np.random.default_rng(3).integers(0, VOCAB, (17, 6))
    other = pair_up(Examples.of(tokens), [X, Y], seed=5, draw=2).partners[Y]
    cycle = np.random.default_rng([5, 2, *b"pairs"]).permutation(17)
    assert (other[cycle] == np.roll(cycle, -1)).all()


@pytest.mark.parametrize("other", ["mean", "mean by name", "mean by template"])
@pytest.mark.parametrize("pairs", [True, False])
def test_y_is_the_mean_over_the_others(model: Model, other: str, pairs: bool) -> None:
    """Against every node by itself, with means that are taken here: of each component at the end of a rule's path."""
    examples = prompts(pairs=pairs, rows=37)
    if other == "mean by template":
        examples = in_templates(examples)
    rules = "v a1/v/a0/** -> y\n  a1/v/emb -> y\n  **/a1/k/** -> y"
    trial = scrub.prepare(study(rules, other=other), model, examples, EXACT)
    result = trial.run()
    experiment = next(e for e in trial.experiments if e.name == "h/v")
    assert Y not in experiment.draws
    pairing = trial.pairing(0)
    others = torch.from_numpy(pairing.pool[pairing.partners[Y]][:, :-1])
    places = np.where(examples.real, np.arange(LONGEST)[None], -1)
    if other == "mean by name":
        places = examples.places
    elif other == "mean by template":
        places = places + 1000 * examples.documents[:, None]
    of_others = places if pairs else places[pairing.partners[Y]]
    leaves = held([experiment.graph])
    assert {held_by(leaf).written for leaf in leaves} == {other.replace("mean", "mean y")}
    assert len(leaves) == 2  # the embedding, and layer 0, at whichever paths
    values: dict[Node, torch.Tensor] = {}
    for leaf in leaves:
        own = naive(model, stands_for(leaf), {"x": others, "y": others})
        means = torch.zeros(len(examples), LONGEST, own.shape[-1], dtype=torch.float64)
        for row, position in zip(*np.nonzero(examples.real), strict=True):
            means[row, position] = own[torch.from_numpy(of_others == places[row, position])].mean(0)
        values[leaf] = means
    inputs = torch.from_numpy(examples.inputs)
    for row in range(5):
        graph = experiment.graph
        found = logits_with(
            model, graph, {leaf: value[row : row + 1] for leaf, value in values.items()}, inputs[row][None]
        )
        at = int(examples.ends[row])
        loss = -found[0, at].log_softmax(-1)[int(examples.expected[row])]
        assert result.loss["h/v"][row] == pytest.approx(float(loss), abs=1e-9)


def in_templates(examples: Examples) -> Examples:
    """The same in templates, of which each has prompts of one length; their numbers are those of no rows."""
    return replace(examples, documents=7 + 2 * examples.ends)


def test_templates_are_what_is_left_without_named_tokens(model: Model) -> None:
    """Where rows name none: prompts of one form are one, whatever their words; of another, or with other names, not."""
    rows = [[3, 4, 5, 6], [3, 7, 5, 8], [3, 4, 5, 6], [3, 4, 9, 6], [3, 4, 5, 6, 6], [3, 5, 7, 6]]
    at = [(1, 3), (1, 3), (3, 1), (1, 3), (1, 3), (1, 3)]
    table = [
        {"clean": row, "corrupted": row[::-1], "answer": 1, "A": a, "B": b}
        for row, (a, b) in zip(rows, at, strict=True)
    ]
    found = scrub.read_prompts(model, table).templates
    assert (found[:, None] == found).tolist() == (np.array([0, 0, 1, 2, 3, 4])[:, None] == [0, 0, 1, 2, 3, 4]).tolist()
    named = scrub.read_prompts(model, [{**row, "template": "ab"[at % 2]} for at, row in enumerate(table)])
    assert named.templates.tolist() == [0, 1, 0, 1, 0, 1]


def logits_with(model: Model, graph: Node, values: dict[Node, torch.Tensor], tokens: torch.Tensor) -> torch.Tensor:
    """The logits of one row, with what is held at these values."""
    found: dict[Node, torch.Tensor] = {}
    for each in walk([graph]):
        if each.op == "held":
            found[each] = values[each.value]
        elif each.op == "take_places":
            found[each] = found[each.inputs[0]]
        elif each.op in {"place", "place_in_template"}:
            found[each] = tokens
        else:
            of = {"tokens": tokens, "position": torch.arange(tokens.shape[1])[None]}
            found[each] = (
                model.params[str(each.arguments["name"])]
                if each.op == "param"
                else of[each.op]
                if each.op in of
                else OPS[each.op].function()(*(found[i] for i in each.inputs), **each.arguments)
            )
    return found[graph]


def test_a_mean_of_one_is_told(model: Model) -> None:
    examples = prompts(rows=7)
    assert examples.lengths is not None
    lengths = np.where(np.arange(7) == 3, LONGEST, LONGEST - 2)
    alone = replace(
        examples,
        lengths=lengths,
        other_lengths=lengths,
        scored=np.arange(LONGEST)[None] == lengths[:, None] - 1,
    )
    with pytest.raises(ScrubError, match=r"no other than position 9 of row 3 of made has such a position"):
        scrub.run(study("v a1/v/** -> y", other="mean"), model, alone, EXACT)


def test_means_pass_a_gate_of_their_own(model: Model) -> None:
    """Means that stand somewhere else than y would are seen."""
    trial = scrub.prepare(study("v a1/v/** -> y", other="mean"), model, prompts(), EXACT)
    assert trial.gates().deviations["mean over one other and that drawn, float64"] < 1e-12
    wrong = replace(
        trial.experiments,
        scrubbed=tuple(
            replace(e, graph=trial.experiments.scrubbed[0].graph) if e.name == "h/v" else e
            for e in trial.experiments.scrubbed
        ),
    )
    with pytest.raises(GateError, match="h/v at means over one gives another loss than the h/v"):
        replace(trial, experiments=wrong).gates()


MUTANTS = {
    "nothing is replaced": lambda m: m.setattr(scrub.study.experiments, "with_means", lambda graph, _: graph),
    "zeros": lambda m: m.setattr(
        scrub.study.evaluate, "held_values", lambda *given: {k: v * 0 for k, v in held_values(*given).items()}
    ),
    "means over x": lambda m: m.setattr(
        scrub.study.evaluate,
        "averaged",
        lambda *given: {
            by: replace(each, tokens=averaged(*given)[X, ""].tokens) for by, each in averaged(*given).items()
        },
    ),
    "places that are others'": lambda m: m.setattr(Examples, "places", property(lambda of: np.roll(PLACES(of), 1, 1))),
    "templates that are others'": lambda m: m.setattr(Examples, "templates", property(lambda of: 0 * of.ends)),
}
PLACES = Examples.places.func


@pytest.mark.parametrize(
    ("other", "mutant"),
    [
        *product(["mean", "mean by name", "mean by template"], list(MUTANTS)[:3]),
        ("mean by name", "places that are others'"),
        ("mean by template", "templates that are others'"),
    ],
)
def test_means_that_are_none_are_seen(model: Model, other: str, mutant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    MUTANTS[mutant](monkeypatch)
    examples = in_templates(prompts(rows=101)) if other == "mean by template" else prompts(rows=101)
    with pytest.raises(GateError, match="the mean over the others"):
        scrub.run(study("v a1/v/** -> y\n  **/a0/k/** -> y", other=other), model, examples, EXACT)


def test_studies_against_a_mean_have_a_name_of_their_own(model: Model) -> None:
    found = scrub.run(study("v a1/v/** -> y"), model, prompts(), replace(EXACT, other="mean"))
    assert found.study == "study against the mean"
    assert found.to_dict()["other"] == "mean"
    with pytest.raises(ScrubError, match="y can't stand for 'median'"):
        replace(EXACT, other="median")


def test_pads_are_in_no_mean(model: Model) -> None:
    """Of an intervention's mean over the examples, too."""
    trial = scrub.prepare(study("v a1/v/** -> y", other="mean"), model, prompts(), EXACT)
    leaf = held([trial.experiments.scrubbed[0].graph])[0]
    one, another = (
        held_values(
            [leaf], model, averaged(scrub.prepare(study("v a1/v/** -> y"), model, prompts(pad=pad), EXACT).pairing(0))
        )
        for pad in (0, 7)
    )
    assert torch.equal(one[leaf], another[leaf])


def test_the_pairs_file_has_what_prompts_come_with() -> None:
    examples = prompts()
    trial = scrub.prepare("induction/naive", data=examples, settings=scrub.Settings(parts=("k",), progress=False))
    pairs = load(pairs_file(trial))
    for name, array in (("reference", examples.tokens), ("other", examples.other), ("selected", examples.scored)):
        np.testing.assert_array_equal(pairs[name], array)
    for name in ("lengths", "answers", "wrong"):
        np.testing.assert_array_equal(pairs[name], getattr(examples, name))
    assert examples.positions
    for name, at in examples.positions.items():
        np.testing.assert_array_equal(pairs[f"position {name}"], at)
