"""The gates of an encoder: what feeds a mask of pads is seen, apart from what feeds everything else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from small import small_decoder

import scrub
import scrub.study.looks
from scrub.graph.heads import is_mask
from scrub.graph.node import Node, node, rewrite
from scrub.measure.weights.matrices import attention_layers, stream_readers
from scrub.models.model import Model
from scrub.paths.edges import by_head, edges_of, fed_along, keep
from scrub.paths.sources import Source
from scrub.study.run import Trial
from scrub.text.errors import GateError, ScrubError

BATCH, PAD = 23, 1
SETTINGS = scrub.Settings(progress=False, dtype="float64")
RULES = """
splits   a1.2/{q,k}       by positions 1..3
         a1.2/mask        by positions 0..4
mask     a1.2/mask*       -> y
half     a1.2/mask[rest]  -> y
         a1.2/k[1..3]/**  -> y
both     a1.2/**          -> y
two      a1.2/{q,k}*/**   -> y
         **/a0/mask       -> y
"""


@pytest.fixture(scope="module")
def model() -> Model:
    return small_decoder("encoder")


def examples() -> scrub.Examples:
    generator = np.random.default_rng(5)
    tokens = generator.integers(PAD + 1, 13, size=(BATCH, 7))
    for row, length in enumerate(generator.integers(1, 8, size=BATCH)):
        tokens[row, length:] = PAD
    return scrub.Examples.of(tokens, labels=generator.integers(5, size=BATCH))


def asked(model: Model, rules: str = RULES, data: scrub.Examples | None = None) -> Trial:
    study = scrub.Study(baseline="** -> y", positions="0", name="s", hypotheses=(scrub.Hypothesis(rules, name="h"),))
    return scrub.prepare(study, model, data or examples(), SETTINGS)


@pytest.mark.parametrize("kind", ["estimate phi", "direction v"])
def test_a_mask_is_no_vector_to_split(model: Model, kind: str) -> None:
    made = scrub.Hypothesis(
        f"splits **/a1/mask by {kind}\nm  **/mask -> y",
        name="h",
        estimates={"phi": lambda tokens, _: np.zeros((*tokens.shape, 1))} if "phi" in kind else {},
        directions={"v": [1.0]} if "v" in kind else {},
    )
    study = scrub.Study(baseline="** -> y", positions="0", name="s", hypotheses=(made,))
    with pytest.raises(ScrubError, match=rf"by {kind}' can't split 'mask': that says which keys are pads, and is no"):
        scrub.prepare(study, model, examples(), SETTINGS)


def test_all_gates_pass(model: Model) -> None:
    gates = asked(model).gates()
    assert all(0 <= value < 1e-12 for value in gates.deviations.values())
    assert not [text for text in gates.warnings if "changes no" in text and "h/all" not in text]


def fed_by_x(which: Callable[[Node], bool]) -> Callable[..., Any]:
    """A plan in which masks are fed by x, whatever the graphs say; all else is as it is."""
    compile_plans = scrub.study.looks.compile_plans

    def build(current: Node) -> Node:
        return (
            current.with_inputs((node("tokens", source=Source.parse("x")), current.inputs[1]))
            if which(current)
            else current
        )

    def wrong(groups: Any, *arguments: Any, **more: Any) -> Any:
        # those of the hypothesis alone: where all is y, x shows at once
        rebuilt = [
            ({n: rewrite([g], build)[g] if str(n)[:2] == "h/" else g for n, g in of.items()}, at) for of, at in groups
        ]
        return compile_plans(rebuilt, *arguments, **more)

    return wrong


def few_mask(current: Node) -> bool:
    """A mask as the gates look at it, by the rows of a few tokens."""
    of = current.inputs[1].arguments.get("of") if current.op == "embed" else None
    return isinstance(of, Node) and of.op == "masked_scores"


@pytest.mark.parametrize(
    ("rules", "says"),
    [
        ("m  a1.2/mask -> y", "h/m does not carry the source 'y', which feeds it"),
        ("m  a1.2/** -> y", "h/m: the masks that '[xy]' feeds carry none of it"),
        ("m  a1.2/mask -> y\n a1.2/q/** -> y", "h/m: a1.2/mask -> y: the paths of this rule carry nothing of what"),
    ],
)
def test_a_mask_that_is_fed_by_x_all_the_same(
    model: Model, monkeypatch: pytest.MonkeyPatch, rules: str, says: str
) -> None:
    asked(model, rules).gates()
    wrong = fed_by_x(few_mask)
    monkeypatch.setattr(scrub.study.looks, "compile_plans", wrong)
    monkeypatch.setattr(
        scrub.study.looks, "compile_plan", lambda outputs, **more: wrong([(outputs, more.pop("first", 0))], **more)[0]
    )
    with pytest.raises(GateError, match=says):
        asked(model, rules).gates()


def test_masks_are_found(model: Model) -> None:
    masks = {each for each in scrub.graph.node.walk([model.graph]) if each.label == "mask"}
    assert masks == {each for each in scrub.graph.node.walk([model.graph]) if is_mask(each)}


def test_rows_of_patterns_are_looked_at_where_the_class_is_read(model: Model) -> None:
    """Of a row at position 0 the donor is one of few; without its mask a pattern isn't whole."""
    rules = scrub.Hypothesis("r  a1.2/{q,k,mask}/** -> rows like any", name="h", features={"any": lambda t, _: t * 0})
    study = scrub.Study(baseline="** -> y", positions="0", name="s", hypotheses=(rules,))
    trial = scrub.prepare(study, model, examples(), SETTINGS)
    assert not [text for text in trial.gates().warnings if "changes no loss" in text]
    few = scrub.study.looks.few_of(trial.pairing(0))
    source = Source.parse("rows like any")
    assert isinstance(source, scrub.paths.sources.Draw)
    assert (few.partners[source][few.order, 0] == trial.pairing(0).partners[source][few.order, 0]).all()


def test_gates_look_at_other_classes_than_those_that_are_right(model: Model) -> None:
    """A classifier's loss of its own class may be nothing, whatever is wrong."""
    pairing = asked(model).pairing(0)
    right, looked_at = pairing.examples.labels, scrub.study.looks.few_of(pairing).examples.labels
    assert right is not None
    assert looked_at is not None
    assert (looked_at != right).all()
    assert {*looked_at.tolist()} == {*right.tolist()} == set(range(5))


def test_draws_that_agree_in_the_first_examples_are_looked_at_in_more(model: Model) -> None:
    """The examples that gates look at drew themselves, by chance: others tell that the rule does something."""
    trial = asked(model, "draws  A any\nm  a1.2/v/** -> A")
    pairing, source = trial.pairing(0), Source.parse("A any")
    assert isinstance(source, scrub.paths.sources.Draw)
    first = scrub.study.looks.few_of(pairing).order
    assert len(first) == 2
    told = {}
    for name, of in (("first", first), ("all", np.arange(BATCH))):
        partners = {**pairing.partners, source: pairing.partners[source].copy()}
        partners[source][of] = pairing.itself(source)[of]
        gates = scrub.study.gates.check_gates(trial.experiments, model, replace(pairing, partners=partners), "float64")
        told[name] = [text for text in gates.warnings if "changes no" in text]
    assert not told["first"]
    (text,) = told["all"]
    assert text.endswith("carries nothing to the positions looked at, in 8 examples")


def test_a_mean_over_the_others_has_no_mask(model: Model) -> None:
    """But a head that is fed by y, its mask too, is held at its mean."""
    found = {}
    for rule in ("a1.2/** -> y", "**/a1/mask -> y"):
        hypotheses = (scrub.Hypothesis(f"r  {rule}", name="h"),)
        found[rule] = scrub.Study(baseline="** -> y", positions="0", name="s", other="mean", hypotheses=hypotheses)
    gates = scrub.prepare(found["a1.2/** -> y"], model, examples(), SETTINGS).gates()
    assert gates.deviations["means over the others, float64"] < 1e-12
    with pytest.raises(ScrubError, match="a rule feeds a mask by y, and a mean over the others has none"):
        scrub.prepare(found["**/a1/mask -> y"], model, examples(), SETTINGS)


def test_a_mask_is_a_site(model: Model) -> None:
    data = examples()
    with_y = scrub.ablate(model, data, ["a1.2/mask"], how="resample", settings=SETTINGS)
    rule = asked(model, "m  **/a1.2/mask -> y").run()
    assert with_y.effects.values["loss"][1].mean() == pytest.approx(float(np.mean(rule.loss["h/m"])), abs=1e-12)


def test_readers_of_the_stream_have_no_mask(model: Model) -> None:
    assert {reader.slot for reader in stream_readers(model)} == {"", "q", "k", "v"}
    assert [sorted(layer.nodes) for layer in attention_layers(model)] == [["k", "q", "v"]] * 2
    edges = edges_of(by_head(model.graph).graph)
    assert not [edge for edge in edges if "mask" in str(edge)]
    assert fed_along(keep(by_head(model.graph).graph, set(edges))) == frozenset(edges)
