"""The metrics by their names, on prompts of several lengths, against plain numpy on what the model itself gives."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from project import tiny_model
from prompted import COUNT, POSITIONS, prompts

import scrub
from scrub.data.choices import EITHER
from scrub.data.examples import PROMPTS, TEXT, Examples
from scrub.models.model import Model
from scrub.paths.cut import Cut
from scrub.paths.rules import Rule
from scrub.plan.plan import compile_plan
from scrub.study.evaluate import evaluate
from scrub.study.experiments import UNSCRUBBED, Experiments, Name, build
from scrub.study.metric import METRICS, ROLES, Metric, as_metrics, studied
from scrub.study.settings import Settings
from scrub.study.statistics import Bootstrap
from scrub.text.errors import GateError, ScrubError

SETTINGS = Settings(dtype="float64", progress=False, batch=5)
SCRUBBED = Name("** -> y")


@pytest.fixture(scope="module")
def model() -> Model:
    return tiny_model()


def experiments(model: Model) -> Experiments:
    return Experiments(
        build(UNSCRUBBED, Cut(model.graph)), (build(SCRUBBED, Cut(model.graph), [Rule.parse(SCRUBBED)]),)
    )


def by_hand(metric: str, logits: np.ndarray, unscrubbed: np.ndarray, right: list[int], wrong: list[int]) -> float:
    """One metric at one position, from its formula."""
    p, q = (np.exp(each - each.max()) / np.exp(each - each.max()).sum() for each in (logits, unscrubbed))
    values = {
        "loss": lambda: -np.log(p[right[0]]),
        "logit_diff": lambda: logits[right].mean() - logits[wrong].mean(),
        "prob": p[right].sum,
        "prob_diff": lambda: p[right].sum() - p[wrong].sum(),
        "logprob": lambda: np.log(p[right].sum()),
        "accuracy": lambda: float(logits.argmax() in right),
        "pair_accuracy": lambda: float(logits[right].max() > logits[wrong].max()),
        "kl": (q * (np.log(q) - np.log(p))).sum,
    }
    return float(values[metric]())


def oracle(model: Model, examples: Examples, metric: str, scrubbed: bool) -> np.ndarray:
    """The sum over each example's scored positions, each prompt read alone and without its pads."""
    found = np.zeros(len(examples))
    for row in range(len(examples)):
        end = examples.ends[row]
        x, y = (torch.from_numpy(of[row : row + 1, : end + 1]) for of in (examples.tokens, examples.other))
        logits, unscrubbed = model(y if scrubbed else x)[0].numpy(), model(x)[0].numpy()
        for at in np.flatnonzero(examples.scored[row]):
            last = at == end
            right = [int(t) for t in examples.answers[row] if t >= 0] if last else [int(examples.tokens[row, at + 1])]
            wrong = [int(t) for t in examples.wrong[row] if t >= 0]
            found[row] += by_hand(metric, logits[at], unscrubbed[at], right, wrong)
    return found


@pytest.mark.parametrize("metric", METRICS)
def test_each_is_its_formula(model: Model, metric: str) -> None:
    examples = prompts()
    found = evaluate(model, experiments(model), examples, [METRICS[metric]], SETTINGS)
    for name in (UNSCRUBBED, SCRUBBED):
        expected = oracle(model, examples, metric, name == SCRUBBED)
        np.testing.assert_allclose(found.sums[metric, name], expected, rtol=0, atol=1e-9)
    assert (oracle(model, examples, metric, True) != oracle(model, examples, metric, False)).any()


@pytest.mark.parametrize("metric", ["loss", "prob", "logprob", "kl"])
def test_of_several_scored_positions_each_counts(model: Model, metric: str) -> None:
    examples = prompts(2)
    found = evaluate(model, experiments(model), examples, [METRICS[metric]], SETTINGS)
    expected = oracle(model, examples, metric, True)
    np.testing.assert_allclose(found.sums[metric, SCRUBBED], expected, rtol=0, atol=1e-9)


def sure(model: Model, examples: Examples) -> Examples:
    """The prompts whose answers are what the model says in every second row, and in every third at the end alone."""
    tokens, answers = examples.tokens.copy(), np.full((len(examples), 1), 1)
    for row in range(len(examples)):
        top = model(torch.from_numpy(tokens[row : row + 1, :-1]))[0].argmax(-1).numpy()
        end = examples.ends[row]
        for at in range(end - 1, end + 1):
            if row % 2 == 0 or (row % 3 == 0 and at == end):
                top = model(torch.from_numpy(tokens[row : row + 1, :-1]))[0].argmax(-1).numpy()
                tokens[row, at + 1] = top[at]
    answers[:, 0] = tokens[np.arange(len(tokens)), examples.ends + 1]
    return replace(examples, tokens=tokens, answers=answers)


@pytest.mark.parametrize("kind", [PROMPTS, TEXT])
def test_accuracy_over_a_span_is_of_all_of_it_in_prompts(model: Model, kind: str) -> None:
    examples = replace(sure(model, prompts(1)), kind=kind)
    measured = studied(METRICS["accuracy"])
    found = evaluate(model, experiments(model), examples, measured, SETTINGS, values_of=["loss"])
    hits = {}
    for name, tokens in ((UNSCRUBBED, examples.tokens), (SCRUBBED, examples.other)):
        top = model(torch.from_numpy(tokens[:, :-1])).argmax(-1).numpy()
        hit = (top == examples.tokens[:, 1:]).astype(float)
        if kind == PROMPTS:
            hit = np.repeat(np.where(examples.scored, hit, 1).min(1, keepdims=True), POSITIONS, 1)
        hits[name] = hit
        np.testing.assert_array_equal(found.values["loss", name], hit[examples.scored])
        np.testing.assert_array_equal(found.sums["loss", name], (hit * examples.scored).sum(1))
    change = (abs(hits[SCRUBBED] - hits[UNSCRUBBED]) * examples.scored).sum(1)
    np.testing.assert_array_equal(found.sums["change", SCRUBBED], change)
    sums = found.sums["loss", UNSCRUBBED]
    assert set(sums) == ({0, 2} if kind == PROMPTS else {0, 1, 2})


def own_difference(logits, answers, wrong):
    def mean(ids):
        there = ids >= 0
        return (logits.gather(1, ids.clamp(min=0)) * there).sum(1) / there.sum(1)

    return mean(answers) - mean(wrong)


OWN = {
    "logit_diff": own_difference,
    "loss": lambda logits, targets: torch.nn.functional.cross_entropy(logits, targets, reduction="none"),
    "kl": lambda p, _, q: (q.softmax(1) * (q.log_softmax(1) - p.log_softmax(1))).sum(1),
    "accuracy": lambda logits, answers: (logits.argmax(1)[:, None] == answers).any(1),
}


@pytest.mark.parametrize("name", OWN)
def test_ones_own_of_the_same_formula(model: Model, name: str) -> None:
    examples = prompts(0 if name == "logit_diff" else 2)
    own = Metric.of(OWN[name], name="mine", of_all=name == "accuracy")
    found = evaluate(model, experiments(model), examples, [own, METRICS[name]], SETTINGS)
    for each in found.names:
        np.testing.assert_allclose(found.sums["mine", each], found.sums[name, each], rtol=0, atol=1e-12)


def test_plans_of_low_rank_give_the_same(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every metric of experiments that share most of their stream, simplified and not."""
    rules = ("a1.0/v/** -> y", "a1.3/k/** -> y", "a1.1/q/** -> y", "a0.2/v/emb -> y")
    built = tuple(build(Name(rule), Cut(model.graph, model.roles), [Rule.parse(rule)]) for rule in rules)
    of = Experiments(build(UNSCRUBBED, Cut(model.graph)), built)
    own = Metric.of(own_difference, name="mine")
    simplified = evaluate(model, of, prompts(), [*METRICS.values(), own], SETTINGS)
    monkeypatch.setattr(
        "scrub.study.evaluate.compile_plan", lambda outputs, **_: compile_plan(outputs, simplified=False)
    )
    plain = evaluate(model, of, prompts(), [*METRICS.values(), own], SETTINGS)
    assert simplified.sums.keys() == plain.sums.keys()
    for key, sums in plain.sums.items():
        np.testing.assert_allclose(simplified.sums[key], sums, rtol=0, atol=1e-9)
        np.testing.assert_array_equal(np.isnan(sums), False)


@pytest.mark.usefixtures("in_project")
def test_several_in_one_run_are_those_of_runs_alone() -> None:
    """Every way of looking at the result has all of them."""

    def asked(metric: object) -> scrub.Result:
        return scrub.run("induction/naive", data=prompts(), settings=settings, metric=metric)

    names, settings = ["logit_diff", "loss", "prob"], replace(SETTINGS, parts=("k", "all"))
    together = asked(names)
    assert list(together.by_metric) == names
    for name in names:
        alone, of = asked(name), together.by_metric[name]
        for role in ROLES:
            for experiment, sums in getattr(alone, role).items():
                np.testing.assert_allclose(getattr(of, role)[experiment], sums, rtol=0, atol=1e-9)
        assert (of.study, of.unit, of.with_ratio) == (alone.study, alone.unit, alone.with_ratio)
        assert list(of.losses) == ["unscrubbed", "baseline", "all_scrubbed"]  # no bigram, which would count pads
    content = together.to_dict()
    assert [(row["metric"], row["unit"], row["part"]) for row in content["rows"]] == [
        (name, METRICS[name].unit, part) for name in names for part in ("k", "all")
    ]
    assert list(content["losses_by_metric"]) == names
    assert content["losses"] == content["losses_by_metric"]["logit_diff"]
    assert all(row["ratio"] is not None for row in content["rows"] if row["metric"] == "logit_diff")
    assert all(row["ratio"] is None for row in content["rows"] if row["metric"] != "logit_diff")
    text = repr(together)
    assert all(f"{METRICS[name].name}, {METRICS[name].unit}" in text for name in names)
    assert "prompts" in together.heading
    assert "documents" not in text
    assert len(together.plot().axes) >= len(names)


@pytest.mark.usefixtures("in_project")
def test_the_plain_ratio_and_its_interval() -> None:
    result = scrub.run("induction/naive", data=prompts(), settings=SETTINGS, metric="logit_diff")
    sums = np.stack([result.loss["naive/k"], result.loss["unscrubbed"]])
    bootstrap = Bootstrap(result.positions, result.seed, result.documents)
    scrubbed, unscrubbed = bootstrap.means(sums)
    expected = bootstrap.interval(100 * scrubbed / unscrubbed)
    row = next(row for row in result.to_dict()["rows"] if row["part"] == "k")
    assert (row["ratio"], row["ratio_low"], row["ratio_high"]) == pytest.approx(
        (expected.estimate, expected.low, expected.high), abs=1e-12
    )
    assert row["ratio"] == pytest.approx(100 * result.loss["naive/k"].sum() / result.loss["unscrubbed"].sum())
    assert "ratio, %" in repr(result)


@pytest.mark.usefixtures("in_project")
def test_every_scored_position_in_the_metrics_unit() -> None:
    study = scrub.Study(baseline="a1.ind/** -> y", model="tiny", metric="prob", hypotheses=("induction/naive",))
    trial = scrub.prepare(study, data=prompts(2), settings=replace(SETTINGS, parts=("k",)))
    frame = trial.token_losses("naive/k")
    assert set(frame["metric"]) == {"prob"}
    assert set(frame["unit"]) == {"probability"}
    sums = frame.groupby("sequence")["naive/k"].sum()
    np.testing.assert_allclose(sums, trial.run().loss["naive/k"], rtol=0, atol=1e-9)


@pytest.mark.usefixtures("in_project")
def test_the_loss_alone_is_as_it_was() -> None:
    """No row says its metric, and nothing is there that wasn't."""
    settings = replace(SETTINGS, sequences=7)
    content, named = (scrub.run("induction/naive", settings=settings, metric=each).to_json() for each in (None, "loss"))
    assert content == named
    assert not {"metric", "unit", "ratio", "losses_by_metric", "kind"} & {
        word.split('"')[1] for word in content.split("\n") if '"' in word
    }


@pytest.mark.usefixtures("in_project")
@pytest.mark.parametrize(
    ("metric", "named"),
    [
        ("logit_dif", r"logit_dif.*logit_diff"),
        ([], "no metric"),
        (["loss", "kl", "loss"], "'loss'"),
        (3, "3"),
        ([LookupError("x")], "LookupError"),
    ],
)
def test_names_that_are_none(metric: object, named: str) -> None:
    with pytest.raises(ScrubError, match=named):
        as_metrics(metric)
    with pytest.raises(ScrubError):
        scrub.prepare("induction/naive", settings=SETTINGS, metric=metric)


@pytest.mark.usefixtures("in_project")
def test_what_a_metric_looks_at_must_be_there() -> None:
    with pytest.raises(ScrubError, match="wrong"):
        scrub.prepare("induction/naive", settings=replace(SETTINGS, sequences=7), metric=["loss", "logit_diff"])
    with pytest.raises(ScrubError, match=r"row 0.*position"):
        scrub.prepare("induction/naive", data=prompts(2), settings=SETTINGS, metric="prob_diff")
    assert prompts().choices(EITHER)[0].shape == (COUNT, POSITIONS, 5)


@pytest.mark.usefixtures("in_project")
def test_infinities_are_told_by_the_metrics_name() -> None:
    def infinite(logits, unscrubbed):
        return (logits - unscrubbed).abs().sum(1).reciprocal()

    with pytest.raises(GateError, match="the infinite of unscrubbed is no finite number"):
        scrub.run("induction/naive", data=prompts(), settings=SETTINGS, metric=["loss", infinite])
