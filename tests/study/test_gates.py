"""Each gate goes red when what it guards is broken, and no number is given then."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import scrub.study.binding
import scrub.study.draws
import scrub.study.gates
import scrub.study.looks
import scrub.study.run
from scrub.cli import _status
from scrub.graph.node import Node
from scrub.graph.ops import OPS
from scrub.paths.rules import Rule
from scrub.paths.sources import RowsLike, Source
from scrub.paths.splits import Split
from scrub.plan.plan import Plan, compile_plan
from scrub.study.hypothesis import Hypothesis
from scrub.study.run import Trial, prepare, run
from scrub.study.settings import Settings
from scrub.text.errors import GateError
from scrub.text.wording import dtype_name

SPLIT = """
splits  a1.ind/q/a0.self    by identity
        a1.ind/k/a0.*       by mask "last three"
k       a1.ind/k/a0.*/**                    -> y
        a1.ind/k/a0.*[last three]/v/emb     -> x
q       a1.ind/q/a0.self[error]/**          -> y
"""


def asked(rules: str = SPLIT, **changes: Any) -> Trial:
    hypothesis = Hypothesis(rules, name="h", study="induction", features=changes.pop("features", {}))
    settings = Settings(**{"sequences": 23, "progress": False} | changes)
    return prepare(hypothesis, settings=settings)


def broken(monkeypatch: pytest.MonkeyPatch, op: str, change: Callable[[Tensor], Tensor]) -> None:
    """One operation gives something else."""
    whole = OPS[op]
    assert whole.run is not None
    run_it = whole.run
    monkeypatch.setitem(OPS, op, replace(whole, run=lambda *inputs, **static: change(run_it(*inputs, **static))))


def test_all_gates_pass_and_say_how_closely() -> None:
    gates = asked(dtype="bfloat16").gates()
    assert gates.warnings == ()
    assert list(gates.deviations) == [
        f"{what}, {dtype}"
        for dtype in ("float64", "bfloat16")
        for what in ("split graph and model", "scrubbed with y = x and unscrubbed")
    ] + ["first rows shared and computed, bfloat16"]  # the begin token
    full = [value for name, value in gates.deviations.items() if name.endswith("float64")]
    assert all(0 <= value < 1e-12 for value in full)


def test_splits_as_they_are_written_keep_no_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    """In float64 those of some hundred heads would be several times the model."""
    plans = []

    def compiled(*inputs: Any, **how: Any) -> Plan:
        plans.append((how.get("simplified", True), compile_plan(*inputs, **how)))
        return plans[-1][1]

    monkeypatch.setattr("scrub.study.looks.compile_plan", compiled)
    asked().gates()
    written = [plan for simplified, plan in plans if not simplified]
    assert any(step.node.op == "take_heads" for plan in written for step in plan.steps)
    assert not [step for plan in written for step in plan.steps if step.per_run and step.inputs]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_a_split_that_changes_numbers(monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype) -> None:
    """Heads that are taken from a layer are a little off; in float64 alone, where float32 wouldn't notice."""
    off = 1e-7 if dtype == torch.float64 else 1e-2

    def change(value: Tensor) -> Tensor:
        return value * (1 + off) if value.dtype == dtype else value

    broken(monkeypatch, "take_heads", change)
    with pytest.raises(GateError, match=rf"the split of \w+ .* than the model: .* in {dtype_name(dtype)}"):
        asked().gates()


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16"])
def test_examples_that_are_mixed_up(monkeypatch: pytest.MonkeyPatch, dtype: str) -> None:
    """Every example takes the rows of the first one's pattern, and none is its own in any other way."""
    whole = OPS["gather_rows"]
    run_it = whole.run
    assert run_it is not None

    def first(pattern: Tensor, donor: Tensor) -> Tensor:
        return run_it(pattern, torch.zeros_like(donor))

    monkeypatch.setitem(OPS, "gather_rows", replace(whole, run=first))
    rows = "q  a1.ind/q/a0.self/{q,k}/** -> rows like f"
    with pytest.raises(GateError, match="gives another loss"):
        asked(rows, dtype=dtype, features={"f": lambda tokens, _: tokens % 2}).gates()


def test_a_split_that_forgets_a_term(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = Split._terms

    def terms(self: Split, component: Node, roles: Any) -> list[Node]:
        found = whole(self, component, roles)
        return found[:1] if self.kind == "identity" else found

    monkeypatch.setattr(Split, "_terms", terms)
    # without the error term, the rule that names it matches nothing; so take it out
    with pytest.raises(GateError, match="the split of h/k gives another loss than the model"):
        asked(SPLIT.replace("q       a1.ind/q/a0.self[error]/**          -> y\n", "")).gates()


def test_scrubbing_that_changes_numbers_where_y_is_x(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a mask reads is off: unsplit, no mask is computed, so only the scrubbed graphs show it."""
    broken(monkeypatch, "attend_masked", lambda value: value + 0.01)
    with pytest.raises(GateError, match="h/k with every source bound to x gives another loss than the model"):
        asked().gates()


def test_numbers_that_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    broken(monkeypatch, "take_heads", lambda value: value * torch.nan)
    with pytest.raises(GateError, match="by nan nats"):
        asked().gates()


def wrong_tokens(swap: dict[str, str]) -> Callable[..., Any]:
    """A binding that feeds a source with another's tokens."""
    bind = scrub.study.binding.bind

    def wrong(leaves: Any, pairing: Any, members: Any, device: Any = "cpu", **more: Any) -> Any:
        fed = {source: Source.parse(swap.get(str(source), str(source))) for source in pairing.partners}
        partners = {source: pairing.partners[by] for source, by in fed.items()}
        return bind(leaves, replace(pairing, partners=partners), members, device, **more)

    return wrong


@pytest.mark.parametrize(
    ("swap", "message"),
    [
        ({"y": "x"}, "all_scrubbed carries the source 'x', which should not feed it"),
        ({"x": "y"}, "unscrubbed does not carry the source 'x', which feeds it"),
        ({"like _probe": "y"}, "-> y: the paths of this rule carry nothing"),
    ],
)
def test_a_source_bound_to_the_wrong_tokens(
    monkeypatch: pytest.MonkeyPatch, swap: dict[str, str], message: str
) -> None:
    monkeypatch.setattr(scrub.study.looks, "bind", wrong_tokens(swap))
    with pytest.raises(GateError, match=message):
        asked().gates()


def test_rows_bound_to_the_wrong_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = "k  a1.ind/k/a0.prev/{q,k}/** -> rows like start"
    features = {"start": lambda tokens, _: tokens % 2}
    bind = scrub.study.binding.bind

    def wrong(leaves: Any, pairing: Any, members: Any, device: Any = "cpu", **more: Any) -> Any:
        bound, real = bind(leaves, pairing, members, device, **more)
        for leaf in bound:
            if leaf.op == "tokens" and leaf.arguments["source"] == RowsLike("start"):
                poison = int(pairing.pool[-1, 0])  # the token that is embedded as NaN
                bound[leaf] = bound[leaf].clamp(max=poison - 1)
        return bound, real

    assert asked(rows, features=features).gates().warnings == ()
    monkeypatch.setattr(scrub.study.looks, "bind", wrong)
    with pytest.raises(GateError, match="does not carry the source 'rows like start'"):
        asked(rows, features=features).gates()


def test_a_sequence_that_is_its_own_other(monkeypatch: pytest.MonkeyPatch) -> None:
    own = lambda pool: np.arange(len(pool.examples))[::-1].copy()  # noqa: E731 - 23 is odd
    monkeypatch.setattr(scrub.study.draws._Pool, "other", own)
    with pytest.raises(GateError, match="a sequence is its own other"):
        asked().gates()


def test_idle_rules_warn(capsys: pytest.CaptureFixture[str]) -> None:
    idle = SPLIT + "v  a1.ind/v/emb -> x\n"
    result = run(Hypothesis(idle, name="h", study="induction"), settings=Settings(sequences=23, progress=False))
    said = "the rule 'a1.ind/v/emb -> x' changes nothing: its paths are fed so without it"
    assert result.gates.warnings == (f"h/v: {said}", f"h/all: {said}")
    assert set(result.gates.warnings) <= set(result.warnings)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("source", ["any", "like f"])
def test_a_rule_that_hides_another_whole_is_no_mistake(source: str) -> None:
    """What the hidden one feeds nobody draws: the hiding one can't be looked at without it, and the hidden is told."""
    text = f"k  a0.0/k/** -> {source}\n   a0.0/k/emb -> y"
    mine = Hypothesis(text, name="h", features={"f": lambda tokens, _: tokens[:, 0]} if source != "any" else {})
    warnings = (
        prepare(replace(mine, study="induction"), settings=Settings(sequences=23, progress=False)).gates().warnings
    )
    assert [text for text in warnings if "changes" in text] == [
        f"h/{part}: the rule 'a0.0/k/** -> {source}' changes nothing: its paths are fed so without it"
        for part in ("k", "all")
    ]


def test_rules_that_nobody_wrote_warn_of_nothing() -> None:
    covered = "k  a1.ind/k/a0.prev/v/emb -> x\n   a1.ind/k/** -> y\n"
    random = Hypothesis(covered, name="h~k~1", study="induction", null_of="h")
    trial = prepare(random, settings=Settings(sequences=23))
    assert trial.gates().warnings == ()
    baseline, *_, own = trial.experiments.scrubbed
    wrong = replace(trial.experiments, scrubbed=(replace(own, before=baseline.graph),))
    with pytest.raises(GateError, match="the split of h~k~1/k gives another loss"):  # the gates themselves hold
        replace(trial, experiments=wrong).gates()


def test_rules_that_win_nowhere_warn() -> None:
    covered = "k  a1.ind/k/a0.prev/v/emb -> x\n   a1.ind/k/** -> y\n"
    warnings = asked(covered).gates().warnings
    assert len(warnings) == 2
    assert all("'a1.ind/k/a0.prev/v/emb -> x' changes nothing" in text for text in warnings)
    assert asked("k  a1.ind/k/** -> y\n   a1.ind/k/a0.prev/v/emb -> x").gates().warnings == ()


def test_rules_that_carry_nothing_warn() -> None:
    """A mask that holds no position: the rule feeds a path, and nothing comes of it."""
    far = 'splits  a1.ind/k/a0.prev by mask "lag 100"\nk  a1.ind/k/a0.prev[lag 100]/v/emb -> y'
    warnings = asked(far).gates().warnings
    said = "changes no loss: what it feeds carries nothing to the positions looked at, in 2 examples"
    assert warnings == (f"h/k: the rule 'a1.ind/k/a0.prev[lag 100]/v/emb -> y' {said}",)  # once, not with all too
    twice = far.replace("k  a1", "q  a1.ind/k/a0.prev[lag 100]/v/emb -> y\nk  a1")  # written twice, warned of twice
    assert {text.partition(":")[0] for text in asked(twice).gates().warnings if said in text} == {"h/q", "h/k"}


def test_donors_that_are_the_reference_warn() -> None:
    """A feature that nobody shares: each sequence is its own donor, so nothing is resampled."""

    def alone(tokens: np.ndarray, _: object) -> np.ndarray:
        return np.broadcast_to(np.arange(len(tokens))[:, None], tokens.shape)

    warnings = asked("k  a1.ind/k/a0.prev/{q,k}/** -> rows like alone", features={"alone": alone}).gates().warnings
    assert any("'rows like alone' draws the reference itself in 100% of places" in text for text in warnings)


def test_probes_are_every_rule_that_shares_its_source() -> None:
    names = [name for name, _ in scrub.study.gates._probes(asked().experiments)]
    assert names == [  # the others are alone with their source, which is poisoned as a whole
        "h/all: a1.ind/k/a0.*/** -> y",
        "h/all: a1.ind/q/a0.self[error]/** -> y",
    ]
    assert [str(rule) for rule in asked().experiments.scrubbed[0].rules] == [str(Rule.parse("a1.ind/** -> y"))]


@pytest.fixture
def outputs(tmp_path: Any) -> Iterator[list[str]]:
    yield ["--json", str(tmp_path / "o.json"), "--pairs-out", str(tmp_path / "p"), "--plot", str(tmp_path / "o.svg")]
    assert list(tmp_path.iterdir()) == []


def test_a_failed_gate_is_status_1_and_no_number(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], outputs: list[str]
) -> None:
    broken(monkeypatch, "take_heads", lambda value: value * 1.1)
    for command in (["run", *outputs], ["check"]):
        status = _status([command[0], "induction/naive", "--sequences", "23", *command[1:]])
        said = capsys.readouterr()
        assert status == 1
        assert said.out == ""
        assert said.err.count("\n") == 1
        assert said.err.startswith("scrub: a gate failed: the split of ")
        assert "no number of this run can be trusted" in said.err


def test_a_baseline_that_changes_nothing_is_status_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], outputs: list[str]
) -> None:
    """Induction heads that write nothing: 0 % and 100 % are the same loss, and no percentage means anything."""
    load = scrub.study.run.load_model

    def mute(*arguments: Any) -> Any:
        loaded = load(*arguments)
        silent = loaded.params["layers.1.wo"].clone()
        silent[[2, 3]] = 0
        return replace(loaded, params={**loaded.params, "layers.1.wo": silent})

    monkeypatch.setattr(scrub.study.run, "load_model", mute)
    status = _status(["run", "induction/naive", "--sequences", "23", *outputs])
    said = capsys.readouterr()
    assert (status, said.out, said.err.count("\n")) == (1, "", 1)
    assert said.err.startswith("scrub: a gate failed: the baseline gives the unscrubbed loss")
