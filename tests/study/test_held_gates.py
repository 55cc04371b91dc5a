"""The gates of interventions: what is held, splits by positions, and what is not a number in short sequences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from project import byte_tokenizer, tiny_model
from small import random_params
from torch import Tensor

import scrub.paths.rules
import scrub.study.gates
import scrub.study.looks
from scrub.data.examples import Examples
from scrub.graph.node import Node, node, rewrite
from scrub.graph.ops import OPS
from scrub.models.families.attention_only import Config
from scrub.models.model import Model, make_model
from scrub.paths.cut import Cut
from scrub.paths.gathered import draws
from scrub.paths.rules import Rule, held
from scrub.paths.sources import RowsLike, X, Y
from scrub.paths.splits import Split
from scrub.study.draws import Pairing, pair_up
from scrub.study.experiments import UNSCRUBBED, Experiment, Experiments, Name, build
from scrub.study.gates import Gates, check_gates
from scrub.study.held import stands_for
from scrub.study.hypothesis import Hypothesis
from scrub.study.study import Study
from scrub.text.errors import GateError, ScrubError

POSITIONS = "**/a0 by positions 2..4"


@pytest.fixture(scope="module")
def model() -> Model:
    return tiny_model()


def drawn(positions: int, vocab: int = 31, count: int = 7) -> Pairing:
    """Random sequences with every position scored, each with an other."""
    tokens = np.random.default_rng(positions).integers(1, vocab, (count, positions + 1))
    return pair_up(Examples(tokens, np.ones((count, positions), bool)), [X, Y])


def experiment(model: Model, rules: Sequence[str], splits: Sequence[str] = ()) -> Experiment:
    before = model.graph
    for text in splits:
        before = Split.parse(text).apply(before, model.roles)
    return build(Name(" + ".join(rules)), Cut(before), [Rule.parse(text) for text in rules])


def zeros(graphs: Sequence[Experiment], model: Model, positions: int) -> dict[Node, Tensor]:
    """Zeros for every component, patterns that look at the current position, whatever is written at the leaf."""
    values = {}
    for leaf in held(each.graph for each in graphs):
        of = stands_for(leaf)
        if of.op == "attention_pattern":
            values[leaf] = torch.eye(positions).expand(1, heads_of(of), -1, -1)
        elif of.op == "project":
            values[leaf] = torch.zeros(1, heads_of(of), positions, model.config.d_head)
        else:
            values[leaf] = torch.zeros(1, positions, model.config.d_model)
    return values


def heads_of(of: Node) -> int:
    """How many heads there are, from the parameters' shapes."""
    while of.op != "param":
        if of.op == "take_heads":
            return len(of.arguments["indices"])  # type: ignore[arg-type]
        of = of.inputs[OPS[of.op].head_inputs(len(of.inputs))[0]]
    return int(of.arguments["shape"][0])  # type: ignore[index]


def check(
    model: Model, graphs: Sequence[Experiment], pairing: Pairing, values: dict[Node, Tensor] | None = None
) -> Gates:
    """The gates, in float64 and in float32."""
    together = Experiments(build(UNSCRUBBED, Cut(model.graph)), tuple(graphs))
    return check_gates(together, model.to(torch.float32), pairing, "float32", values)


def gates(model: Model, *graphs: Experiment, positions: int = 11) -> Gates:
    return check(model, graphs, drawn(positions), zeros(graphs, model, positions))


HELD = [
    (["a1.ind -> zero"], ["**/a1 by heads ind"]),
    (["**/a0 -> mean"], []),
    (["emb -> zero"], []),
    (["a1/k -> mean"], []),
    (["a1.ind/{q,k} -> attend lag 2"], ["**/a1 by heads ind"]),
    (["a0[previous]/{q,k} -> attend uniform", "a0[rest]/v -> y"], ['a0 by mask "previous"']),
    (["**/a0[2..4] -> zero", "**/a0[rest]/v -> y"], [POSITIONS]),
    (["a1/k[2..4] -> y", "a1/k[rest]/a0 -> mean"], ["a1/k by positions 2..4"]),
    (["** -> zero", "{emb,a1}/** -> x"], []),
]


@pytest.mark.parametrize(("rules", "splits"), HELD, ids=" + ".join)
def test_what_holds_passes(model: Model, rules: list[str], splits: list[str]) -> None:
    found = gates(model, experiment(model, rules, splits))
    assert found.warnings == ()
    assert len(found.deviations) == 4
    assert all(value < 1e-11 for name, value in found.deviations.items() if name.endswith("float64"))


def test_everything_held_reads_no_sequence(model: Model) -> None:
    nothing = experiment(model, ["** -> zero"])
    assert nothing.draws == set()
    assert gates(model, nothing).warnings == ()


@pytest.mark.parametrize(
    ("rules", "idle"),
    [
        (["a1/k -> mean", "a1 -> zero"], ["a1/k -> mean"]),
        (["a1 -> mean", "a1 -> zero"], ["a1 -> mean"]),
        (["a1 -> zero", "a1/k -> y"], ["a1/k -> y"]),
        (["a1/q -> attend uniform", "a1/k -> attend uniform"], []),  # half of a pattern can't be left out
        (["a1/k -> zero", "a1/v -> y"], []),
    ],
)
def test_rules_that_others_hide_warn(model: Model, rules: list[str], idle: list[str]) -> None:
    """Also where the others hold something then that nobody has a value of."""
    warnings = gates(model, experiment(model, rules)).warnings
    assert [text.partition("the rule '")[2].partition("'")[0] for text in warnings] == idle


def test_two_rules_for_the_rows_of_one_pattern_pass(model: Model) -> None:
    rules = ["a1/q -> rows like f", "a1/k -> rows like f"]
    pairing = drawn(11)
    donors = (np.arange(7)[:, None] + 1 + np.arange(11)) % 7
    pairing = replace(pairing, partners={**pairing.partners, RowsLike("f"): donors})
    found = check(model, [experiment(model, rules)], pairing)
    assert not any("changes" in text for text in found.warnings)


def test_held_values_that_do_nothing_warn(model: Model) -> None:
    """Attention that is held at what it is anyway: the first position attends to itself."""
    quiet = experiment(model, ["a1[0]/v -> zero"], ["a1 by positions 0"])
    pairing = drawn(11)
    later = replace(pairing, examples=pairing.examples.later(1))
    (text,) = check(model, [quiet], later, zeros([quiet], model, 11)).warnings
    assert "'a1[0]/v -> zero' changes no loss" in text


# what goes wrong


def moved(monkeypatch: pytest.MonkeyPatch, elsewhere: Node) -> None:
    """Every leaf stands for something else than what it takes the place of."""
    make = node

    def wrong(op: str, *inputs: Node, label: str | None = None, **static: object) -> Node:
        if op == "held":
            static["of"] = elsewhere
        return make(op, *inputs, label=label, **static)  # type: ignore[arg-type]

    monkeypatch.setattr(scrub.paths.rules, "node", wrong)


@pytest.mark.parametrize(
    ("rule", "other"),
    [("a0 -> zero", "a1"), ("a1/k -> zero", "q"), ("a1/{q,k} -> attend uniform", "pattern"), ("emb -> zero", "a0")],
)
def test_a_leaf_that_stands_for_something_else(
    model: Model, monkeypatch: pytest.MonkeyPatch, rule: str, other: str
) -> None:
    in_order = list(rewrite([model.graph], lambda each: each))
    patterns = [each for each in in_order if each.op == "attention_pattern"]
    labelled = {each.label: each for each in in_order if each.label is not None}
    moved(monkeypatch, (patterns[0] if other == "pattern" else labelled[other]).value)
    wrong = experiment(model, [rule])
    with pytest.raises(GateError, match="with every source bound to x gives another loss than the model"):
        check(model, [wrong], drawn(11), {})


def test_a_leaf_that_stands_at_the_wrong_place(model: Model) -> None:
    """A leaf of the keys, at the queries."""
    right = experiment(model, ["a1/k -> mean"])
    (leaf,) = held([right.graph])
    queries = next(
        each.inputs[0] for each in rewrite([model.graph], lambda each: each) if each.op == "attention_pattern"
    )
    swapped = rewrite([model.graph], lambda each: leaf if each is queries else each)[model.graph]
    with pytest.raises(GateError, match="with every source bound to x gives another loss than the model"):
        check(model, [replace(right, graph=swapped)], drawn(11), {})


def test_own_values_that_are_not_its_own(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = scrub.study.looks.Look._own

    def wrong(*arguments: object) -> dict[Node, Tensor]:
        return {leaf: value * 1.01 for leaf, value in whole(*arguments).items()}  # type: ignore[arg-type]

    monkeypatch.setattr(scrub.study.looks.Look, "_own", wrong)
    with pytest.raises(GateError, match="with every source bound to x gives another loss than the model"):
        gates(model, experiment(model, ["a0 -> mean"]))


@pytest.mark.parametrize("rule", ["a0 -> zero", "**/a1/k -> mean", "a1/{q,k} -> attend uniform"])
def test_what_is_held_is_computed_all_the_same(model: Model, monkeypatch: pytest.MonkeyPatch, rule: str) -> None:
    """It ablates nothing, and with everything held at its own value that is all the same."""

    def own(current: Node) -> Node:
        of = current.arguments.get("of")
        return of if isinstance(of, Node) else current

    for name in ("losses", "_target_logit"):
        read = getattr(scrub.study.gates, name)
        monkeypatch.setattr(scrub.study.gates, name, lambda graph, read=read: read(rewrite([graph], own)[graph]))
    source = rule.partition("-> ")[2]
    with pytest.raises(GateError, match=f"does not carry the source '{source}'"):
        gates(model, experiment(model, [rule]), experiment(model, ["a0 -> y"]))


@pytest.mark.parametrize("lost", [0, 2, 4, 10])
@pytest.mark.parametrize("split", ["emb by positions 2..4", "a1/v by positions 2..4", "**/a0 by positions 2..4"])
def test_a_split_by_positions_that_loses_a_row(
    model: Model, monkeypatch: pytest.MonkeyPatch, lost: int, split: str
) -> None:
    whole = OPS["at_positions"]
    assert whole.run is not None
    run = whole.run

    def loses(x: Tensor, position: Tensor, **static: object) -> Tensor:
        found: Tensor = run(x, position, **static)
        gone = (position == lost).reshape(len(position), *[1] * (x.ndim - 3), position.shape[1], 1)
        return found.masked_fill(gone, 0)

    monkeypatch.setitem(OPS, "at_positions", replace(whole, run=loses))
    with pytest.raises(GateError, match="the split of nothing gives another loss than the model"):
        gates(model, replace(experiment(model, [], [split]), name=Name("nothing")))


def test_a_split_by_positions_that_forgets_the_rest(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    terms = Split._terms
    monkeypatch.setattr(Split, "_terms", lambda self, whole, roles: terms(self, whole, roles)[:1])
    with pytest.raises(GateError, match=r"the split of \*\*/a0\* -> y gives another loss"):
        gates(model, experiment(model, ["**/a0 -> y"], []), experiment(model, ["**/a0* -> y"], [POSITIONS]))


def test_a_source_that_a_held_component_should_hide(model: Model) -> None:
    """Zero instead of y, and y is there all the same; and the other way around."""
    zero, other = experiment(model, ["a0 -> zero"]), experiment(model, ["a0 -> y"])
    assert gates(model, zero, other).warnings == ()
    assert zero.draws == {X}
    assert other.draws == {X, Y}
    hidden = build(Name("hidden"), Cut(other.graph), [Rule.parse("**/a0 -> zero")])
    assert draws(hidden.graph) == {X}


# what is not a number


def long_model(positions: int) -> Model:
    """Two layers of heads that are narrower than a vector of any processor's, for sequences of some length."""
    config = Config(
        n_layers=2,
        n_heads=3,
        d_head=2,
        d_model=7,
        n_ctx=positions,
        vocab_size=31,
        bos_token_id=0,
        positions="standard",
        layer_norm_eps=1e-5,
    )
    return make_model("long", config, random_params(config, 5), byte_tokenizer())


@pytest.mark.parametrize("positions", [2, 3, 7, 8, 13, 16, 31, 32, 37])
def test_keys_from_the_other_pass_in_sequences_of_any_length(positions: int) -> None:
    """Of the first layer, where nothing needs the whole pattern: in float32, short ones lost what is not a number."""
    model = long_model(positions)
    keys = experiment(model, ["**/a0/k -> y"])
    assert gates(model, keys, positions=positions).warnings == ()


# beliefs hold nothing


@pytest.mark.parametrize("source", ["zero", "mean", "array a", "attend uniform", "attend lag 2"])
def test_hypotheses_and_baselines_resample(source: str) -> None:
    rule = f"a1.ind/{{q,k}} -> {source}"
    for make in (lambda: Hypothesis(f"k  a1.ind/k -> y\n   {rule}"), lambda: Study(baseline=rule).baseline_rules):
        with pytest.raises(ScrubError) as caught:
            make()
        said = str(caught.value)
        assert said.startswith(f"the rule '{rule}' ")
        assert "ablates, and a" in said
        assert "resamples: feed" in said
        assert "\n" not in said


def test_hypotheses_may_split_by_positions(model: Model) -> None:
    belief = Hypothesis("splits  a1.ind/k by positions 2..4\nk  a1.ind/k[2..4] -> y", name="h")
    graph = belief.scrub(model.graph, model.roles)
    assert {str(each.label) for each in rewrite([graph], lambda each: each)} >= {"k[2..4]", "k[rest]"}
