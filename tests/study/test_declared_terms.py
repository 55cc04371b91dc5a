"""Estimates and directions that a hypothesis declares, and splits by each position: from declaration to number."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from project import N_CTX, byte_tokenizer, tiny_model
from prompted import prompts
from torch import Tensor
from torch.nn import functional

import scrub
import scrub.study.binding
from scrub.graph.node import Node, walk
from scrub.models.model import Model
from scrub.paths.sources import X, Y
from scrub.paths.terms import Direction
from scrub.store.comparisons.lineup import _lowered
from scrub.store.sweeps.grid import Grid
from scrub.study.fitting import fitting
from scrub.study.hypothesis import Hypothesis
from scrub.study.metric import losses
from scrub.study.run import Trial, prepare
from scrub.study.settings import Settings
from scrub.text.errors import GateError, ScrubError
from scrub.text.spans import LAST

WIDTH, HEAD = 13, 3  # d_model and d_head of the project's model
SOME = np.random.default_rng(5).normal(size=(2, WIDTH))


def phi(tokens: np.ndarray, _: object) -> np.ndarray:
    """Of each token, and of all of its sequence."""
    numbers = np.arange(1, WIDTH + 1)
    return np.asarray(np.sin(tokens[..., None] * numbers) + np.cos(tokens.sum(1)[:, None, None] * numbers))


def psi(tokens: np.ndarray, _: object) -> np.ndarray:
    return np.asarray(2 * phi(tokens, tokenizer))


def asked(rules: str, estimates: Any = None, directions: Any = None, **settings: Any) -> Trial:
    made = Hypothesis(
        rules,
        name="h",
        study="induction",
        estimates={"phi": phi} if estimates is None else estimates,
        directions={"v": SOME} if directions is None else directions,
    )
    usual = {"sequences": 23, "dtype": "float64", "positions": "all", "progress": False}
    return prepare(made, settings=Settings(**usual | settings))


WHOLE = {str(at) for at in range(N_CTX)}
INDUCTION, ALL = slice(2, 4), slice(0, 5)  # heads of layer 1


def plain(model: Model, tokens: Tensor, heads: slice = INDUCTION) -> tuple[Tensor, Tensor]:
    """What some heads of layer 1 of the project's model write, and the residual stream behind them, in plain torch."""
    p = {name: value.double() for name, value in model.params.items()}
    stream, each = p["embed.weight"][tokens], torch.zeros(5, 1)
    for layer in range(2):
        name = f"layers.{layer}"
        normed = functional.layer_norm(stream, (WIDTH,), p[f"{name}.ln.weight"], p[f"{name}.ln.bias"], 1e-5)
        at = normed + p["pos.weight"][: tokens.shape[1]]
        q, k, v = (
            torch.einsum("bpm,hdm->bhpd", of, p[f"{name}.w{s}"]) for s, of in (("q", at), ("k", at), ("v", normed))
        )
        z = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        each = torch.einsum("bhpd,hmd->hbpm", z, p[f"{name}.wo"])
        stream = stream + each.sum(0)
    return each[heads].sum(0), stream


def loss(model: Model, stream: Tensor, targets: Tensor) -> Tensor:
    p = {name: value.double() for name, value in model.params.items()}
    normed = functional.layer_norm(stream, (WIDTH,), p["final_ln.weight"], p["final_ln.bias"], 1e-5)
    logits = normed @ p.get("unembed.weight", p["embed.weight"]).T
    return -logits.log_softmax(-1).gather(-1, targets[..., None])[..., 0]


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_terms_of_another_sequence_are_what_plain_torch_has(dtype: str) -> None:
    """Of what induction heads write into the output: an estimate, directions in the rest of that, and what is left."""
    trial = asked(
        """
        splits    out/a1.ind        by estimate phi
                  out/a1.ind[rest]  by direction v
        phi       a1.ind[phi]           -> y
        v         a1.ind[rest][v]/**    -> y
        rest      a1.ind[rest][rest]    -> y
        """,
        dtype=dtype,
    )
    found = trial.run()
    assert max(found.gates.deviations.values()) < (1e-12 if dtype == "float64" else 1e-4)
    pairing, model = trial.pairing(0), trial.model
    x, y = (torch.from_numpy(pairing.pool[pairing.partners[source]]) for source in (X, Y))
    (own, stream), (theirs, _) = plain(model, x[:, :-1]), plain(model, y[:, :-1])
    p, p_y = (torch.from_numpy(phi(each[:, :-1].numpy(), None)) for each in (x, y))
    basis = torch.linalg.svd(torch.from_numpy(SOME), full_matrices=False)[2]
    inside, inside_y = ((each @ basis.T) @ basis for each in (own - p, theirs - p_y))
    # the estimate in a rest that is split reads what the part is fed by
    changes = {"phi": p_y - p, "v": inside_y - inside, "rest": (theirs - p_y - inside_y) - (own - p - inside)}
    for part, change in changes.items():
        answer = loss(model, stream + change, x[:, 1:]).sum(1)
        np.testing.assert_allclose(found.loss[f"h/{part}"], answer, rtol=0, atol=1e-8 if dtype == "float64" else 1e-3)
    assert len({round(float(found.loss[f"h/{part}"].sum()), 6) for part in (*changes, "all")}) == 4


def test_a_layer_that_rules_tell_apart_has_one_estimate() -> None:
    """The study's baseline names its induction heads."""
    trial = asked("splits out/a1 by estimate phi\nphi  a1[phi] -> y\nrest a1[rest] -> y\nind  a1.ind[rest] -> y")
    found, pairing, model = trial.run(), trial.pairing(0), trial.model
    x, y = (torch.from_numpy(pairing.pool[pairing.partners[source]]) for source in (X, Y))
    (own, stream), (theirs, _) = plain(model, x[:, :-1], ALL), plain(model, y[:, :-1], ALL)
    ind, ind_y = (plain(model, each[:, :-1])[0] for each in (x, y))
    change = torch.from_numpy(phi(y[:, :-1].numpy(), None) - phi(x[:, :-1].numpy(), None))
    for part, more in (("phi", change), ("rest", theirs - own - change), ("ind", ind_y - ind - change)):
        answer = loss(model, stream + more, x[:, 1:]).sum(1)
        np.testing.assert_allclose(found.loss[f"h/{part}"], answer, rtol=0, atol=1e-9)


def test_each_position_is_fed_by_its_own_rule() -> None:
    rules = {3: "x", 5: "y", 6: "y", N_CTX - 1: "y"}
    lines = "\n".join(f"   a1.ind[{at}] -> {source}" for at, source in rules.items())
    trial = asked(f"splits out/a1.ind by positions each\nsome  a1.ind[*] -> x\n{lines}\nwhole a1.ind[*] -> y")
    found, pairing, model = trial.run(), trial.pairing(0), trial.model
    x, y = (torch.from_numpy(pairing.pool[pairing.partners[source]]) for source in (X, Y))
    (own, stream), (theirs, _) = plain(model, x[:, :-1]), plain(model, y[:, :-1])
    fed = torch.tensor([rules.get(at) == "y" for at in range(N_CTX)])[:, None]
    for part, where in (("some", fed), ("whole", torch.ones(1))):
        answer = loss(model, stream + where * (theirs - own), x[:, 1:]).sum(1)
        np.testing.assert_allclose(found.loss[f"h/{part}"], answer, rtol=0, atol=1e-9)
    (whole,) = (each.graph for each in trial.experiments if each.name == "h/whole")
    plan = scrub.plan.plan.compile_plan({"loss": losses(whole)})
    assert not [step for step in plan.steps if step.node.op == "at_positions"]  # all from y is what y gives


def test_as_many_positions_as_the_examples_have_and_no_more() -> None:
    trial = asked("splits out/a1.ind by positions each\nk  a1.ind[3] -> y", context=5)
    labels = {each.label for e in trial.experiments for each in walk([e.graph]) if (each.label or "")[:7] == "a1.ind["}
    assert labels == {f"a1.ind[{at}]" for at in range(5)}
    assert trial.run().gates.warnings == ()
    with pytest.raises(ScrubError, match=r"'a1.ind\[5\]' matches no path"):
        asked("splits out/a1.ind by positions each\nk  a1.ind[5] -> y", context=5)


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16"])
def test_all_gates_pass(dtype: str) -> None:
    trial = asked(
        """
        splits  a1.ind/k/a0.self by estimate phi
                a1.ind/k/emb    by direction v
                a1.ind/q        by positions each
                a1.ind/v        by direction narrow
        k   a1.ind/k/a0.self[phi]    -> y
            a1.ind/k/emb[rest]       -> y
        q   a1.ind/q[3]/**           -> y
            a1.ind/q[7]/a0.prev/**   -> y
        v   a1.ind/v[narrow]/**      -> y
        """,
        directions={"v": SOME, "narrow": [1.0, 0.5, -1.0]},
        dtype=dtype,
    )
    assert trial.gates().warnings == ()


def test_gates_ask_an_estimate_about_tokens_of_the_text() -> None:
    """Though they embed by the rows of a few tokens."""
    seen: set[int] = set()

    def noting(tokens: np.ndarray, tokenizer: Any) -> np.ndarray:
        assert (tokens[:, 0] == 0).all(), "rows begin with the begin token"
        assert tokenizer.get_vocab_size() == byte_tokenizer().get_vocab_size()
        seen.update(map(tuple, tokens.tolist()))
        return phi(tokens, None)

    trial = asked("splits a0.prev by estimate phi\nk  a0.prev[phi] -> y", {"phi": noting}, bos=True)
    trial.gates()
    assert seen <= set(map(tuple, trial.examples.inputs.tolist()))


def test_an_estimate_that_hides_what_feeds_it_fails_a_gate(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = scrub.study.binding.estimated
    monkeypatch.setattr(scrub.study.binding, "estimated", lambda *given: np.nan_to_num(whole(*given)))
    with pytest.raises(GateError, match="h/k does not carry the source 'y', which feeds it"):
        asked("splits a0.prev by estimate phi\nk  a0.prev[phi] -> y").gates()


def test_an_estimate_sees_no_pads() -> None:
    seen = []

    def noting(tokens: np.ndarray, _: object) -> np.ndarray:
        seen.append(tokens)
        return phi(tokens, None)

    examples = replace(prompts(), other_lengths=prompts().lengths)
    rules = "splits  out/a1.ind by estimate phi\nk  a1.ind[phi] -> y"
    hypothesis = Hypothesis(rules, name="h", study="induction", estimates={"phi": noting})
    trial = prepare(hypothesis, tiny_model(), examples, Settings(dtype="float64", progress=False))
    found = trial.run()
    assert {each.shape[1] for each in seen} == {5, 7, N_CTX}
    assert examples.lengths is not None
    assert examples.other is not None
    for at, length in enumerate(examples.lengths.tolist()):
        x, y = (torch.from_numpy(each[at : at + 1]) for each in (examples.tokens, examples.other))
        own, theirs = (torch.from_numpy(phi(each[:, :length].numpy(), None)) for each in (x, y))
        stream = plain(trial.model, x[:, :length])[1] + theirs - own
        answer = loss(trial.model, stream, x[:, 1 : length + 1])[0, -1]
        assert found.loss["h/k"][at] == pytest.approx(float(answer), abs=1e-9)


def test_first_rows_that_all_share_are_not_taken_where_an_estimate_tells_them_apart() -> None:
    """Whatever comes later in a sequence, an estimate may look at, though attention doesn't."""
    tokens = np.random.default_rng(1).integers(1, 30, (11, N_CTX + 1))
    other = np.where(np.arange(N_CTX + 1) < N_CTX - 2, tokens, np.roll(tokens, 1, axis=0))
    scored = np.zeros((11, N_CTX), dtype=bool)
    scored[:, -1] = True
    examples = scrub.Examples(tokens, scored, other=other)
    rules = "splits **/a0.prev by estimate phi\nk  **/a0.prev[phi] -> y\nrest  **/a0.prev[rest] -> y"
    hypothesis = Hypothesis(rules, name="h", study="induction", estimates={"phi": phi})
    trial = prepare(hypothesis, tiny_model(), examples, Settings(dtype="float64", progress=False))
    assert trial.pairing(0).first == N_CTX - 2
    found = trial.run()
    never = replace(trial.pairing(0), partners=dict(trial.pairing(0).partners))
    vars(never)["first"] = 0
    whole = trial.evaluator()(never)
    for part in ("k", "rest"):
        np.testing.assert_allclose(found.loss[f"h/{part}"], whole.sums["loss", f"h/{part}"], rtol=0, atol=1e-12)


def test_hashes_tell_what_is_declared_apart() -> None:
    rules = "splits a0.prev by estimate phi\n       a1 by direction v\nk  a0.prev[phi] -> y\n   a1[v] -> y"

    def hashes(**declared: Any) -> str:
        return asked(rules, **declared).experiments.hashes({})[-1]

    usual = hashes()
    assert hashes() == usual
    assert hashes(directions={"v": torch.from_numpy(SOME)}) == usual
    assert hashes(directions={"v": 2 * SOME}) != usual
    assert hashes(estimates={"phi": psi}) != usual
    renamed = rules.replace("phi", "phi2").replace("direction v", "direction w").replace("[v]", "[w]")
    assert asked(renamed, {"phi2": phi}, {"w": SOME}).experiments.hashes({})[-1] == usual


def test_declared_for_each_model_and_made_of_the_model() -> None:
    def of_model(tokens: np.ndarray, _: object, *, model: Model) -> np.ndarray:
        return model.params["embed.weight"].numpy()[tokens]

    rules = "splits  out/emb by estimate phi\nk  emb[rest] -> y\nsplits  out/a1 by direction v\nv  a1[v] -> y"
    own = {"tiny": of_model, "other": phi}
    trial = asked(rules, {"phi": own}, {"v": {"tiny": lambda model: model.params["embed.weight"][2]}})
    found = trial.run()
    # embeddings are all of the estimate, so the rest is nothing, whoever feeds it
    np.testing.assert_allclose(found.loss["h/k"], found.loss["unscrubbed"], rtol=0, atol=1e-9)
    assert abs(found.loss["h/v"] - found.loss["unscrubbed"]).max() > 1e-3
    for what, declared in (("estimate 'phi'", {"estimates": {"phi": {"other": phi}}}), ("direction 'v'", {})):
        with pytest.raises(ScrubError, match=f"h has the {what} for other, but none for tiny: declare one for it"):
            asked(rules, **{"estimates": {"phi": phi}, "directions": {"v": {"other": SOME}}} | declared)


def raising(*_: object) -> np.ndarray:
    raise ZeroDivisionError("by zero")


def drawing(tokens: np.ndarray, _: object) -> np.ndarray:
    return np.random.default_rng().normal(size=(*tokens.shape, WIDTH))


def among(tokens: np.ndarray, _: object) -> np.ndarray:
    """What depends on the rows beside."""
    return phi(tokens, None) - phi(tokens, None).mean(0)


@pytest.mark.parametrize(
    ("function", "says"),
    [
        (raising, r"the estimate 'phi' fails: ZeroDivisionError: by zero: it is called as function\(tokens"),
        (lambda tokens, _: phi(tokens, None)[..., 1:], r"shape \[\d+, 11, 12\] .* 13 wide, not \[\d+, 11, 13\]"),
        (lambda tokens, _: phi(tokens, None)[0], "the estimate 'phi' gives numbers of shape"),
        (lambda tokens, _: phi(tokens, None) * np.nan, "'phi' gives numbers that are NaN or infinite"),
        (lambda tokens, _: phi(tokens, None).astype(str), "'phi' gives <U.* and no numbers"),
        (lambda *_: None, "'phi' gives object None, and no numbers"),
        (lambda tokens: phi(tokens, None), "the estimate 'phi' fails: TypeError"),
        (drawing, "the estimate 'phi' says something else of the same tokens"),
        (among, "the estimate 'phi' says something else of the same tokens"),
    ],
)  # fmt: skip
def test_mistakes_of_an_estimate_are_one_line(function: Callable[..., Any], says: str) -> None:
    trial = asked("splits a0.prev by estimate phi\nk  a0.prev[phi] -> y", {"phi": function})
    with pytest.raises(ScrubError, match=says) as caught:
        trial.run()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (np.zeros(WIDTH), "the direction 'v' is 0, which points nowhere"),
        ([[1.0] * WIDTH, [0.0] * WIDTH], "the direction 'v' is 0, which points nowhere"),
        ([np.nan] * WIDTH, "the direction 'v' holds values that are NaN or infinite"),
        ([[1.0] * WIDTH, [2.0] * WIDTH], "the rows of the direction 'v' depend on one another"),
        ("north", "the direction 'v' is 'north': a direction is a vector"),
        ([], "the direction 'v' is .*: a direction is a vector"),
        ([[1.0], [1.0, 2.0]], "the direction 'v' is .*: a direction is a vector"),
        (np.ones((2, 2, 2)), "a direction is a vector"),
        (np.ones(WIDTH + 1), "can't split 'a0.prev': that is 13 wide, and the direction 14"),
        (lambda _: 1 / 0, "the direction 'v' fails: ZeroDivisionError"),
        (lambda model: model.params["embed.weight"][0] * 0, "the direction 'v' is 0"),
        (lambda model: model, "the direction 'v' is .*: a direction is a vector"),
    ],
)
def test_mistakes_of_a_direction_are_one_line(given: Any, says: str) -> None:
    with pytest.raises(ScrubError, match=says) as caught:
        asked("splits a0.prev by direction v\nk  a0.prev[v] -> y", directions={"v": given})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("scale", [1e200, 1e-200, 5e-324])
def test_a_direction_of_any_size_is_one(scale: float) -> None:
    whole = Direction.of("v", [3.0, 0.0, 4.0])
    found = Direction.of("v", [scale * each for each in (3.0, 0.0, 4.0)])
    assert whole.rows is not None
    assert found.rows is not None
    np.testing.assert_allclose(found.rows, whole.rows, rtol=0, atol=1e-15)


@pytest.mark.parametrize(
    ("split", "says"),
    [
        ("a0 by estimate chi", r"names 'chi', which is no estimate of the hypothesis: pass estimates=\{'chi': ...\}"),
        ("a0 by direction w", r"names 'w', which is no direction of the hypothesis: pass directions=\{'w': ...\}"),
        ("a0 by estimate", "splits by nothing that scrub knows"),
        ("a0 by direction rest", "splits by nothing that scrub knows"),
        ("a0 by positions each S2", "'S2' is no span of positions"),
        ("a1/k by estimate phi", "can't split 'k': an estimate is of what a component writes"),
        ("a1/k by direction v", "can't split 'k': that is 3 wide, and the direction 13"),
        ("a0 by positions each 0..700", "would be 701 terms, and 512 are the most: name the positions"),
    ],
)
def test_splits_that_cant_be_are_one_line(split: str, says: str) -> None:
    with pytest.raises(ScrubError, match=says) as caught:
        asked(f"splits {split}\nk  ** -> y")
    assert "\n" not in str(caught.value)


def test_each_position_is_one_of_the_studys_context_where_no_data_are_read() -> None:
    made = Hypothesis("splits a0 by positions each\nk  a0[1] -> y", name="h")

    def last(graphs: Iterable[Node]) -> str:
        (found,) = {str(each.arguments["positions"]) for each in walk(graphs) if each.op == "at_positions"} - WHOLE
        return found

    for context, wanted in ((None, N_CTX - 1), (3, 2), (N_CTX + 5, N_CTX - 1)):
        study = scrub.Study(baseline="** -> y", name="s", context=context, hypotheses=(made,))
        _, found, _ = fitting(study, [made], tiny_model())
        assert last([found.scrubbed[-1].before]) == f"{wanted}..{LAST}"
        for asked_for, then in ((None, wanted), (4, 3)):
            swept = Grid(studies=study, models=tiny_model(), context=asked_for)
            assert last(_lowered(swept)[1].values()) == f"{then}..{LAST}"


def test_mistakes_in_a_declaration_are_told_without_torch() -> None:
    program = (
        "import sys\nfrom scrub import Hypothesis\nfrom scrub.text.errors import ScrubError\n"
        "for text, directions in (('a0 by estimate phi', {}), ('a0 by direction v', {'v': [0.0, 0.0]})):\n"
        "    try:\n        Hypothesis(f'splits {text}\\nk ** -> y', directions=directions)\n"
        "    except ScrubError as error:\n        print(error)\n"
        "assert 'torch' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") == 2


@pytest.mark.parametrize("of_lengths", [False, True])
def test_means_of_an_estimate_over_the_others(of_lengths: bool) -> None:
    """A part that would be fed by y is held at its mean over the others, at each position, and not over pads."""
    examples = replace(prompts(), other_lengths=prompts().lengths) if of_lengths else None
    rules = "splits  out/a1.ind by estimate phi\n        out/emb by direction v\nk  a1.ind[phi] -> y\nv  emb[v] -> y"
    made = Hypothesis(rules, name="h", study="induction", estimates={"phi": phi}, directions={"v": SOME})
    settings = Settings(sequences=23, dtype="float64", positions="all", progress=False, other="mean")
    if examples is not None:
        settings = Settings(dtype="float64", progress=False, other="mean")
    trial = prepare(made, None if examples is None else tiny_model(), examples, settings)
    found, of, pairing = trial.run(), trial.examples, trial.pairing(0)
    others = pairing.pool[pairing.partners[Y]][:, :-1]
    there = of.real  # as in its other
    said = np.zeros((*others.shape, WIDTH))
    for row, kept in enumerate(there.sum(1)):
        said[row, :kept] = phi(others[row : row + 1, :kept], None)
    mean = torch.from_numpy(said.sum(0) / there.sum(0)[:, None])
    for at in range(len(of)):
        length = int(there[at].sum())
        x = torch.from_numpy(of.tokens[at : at + 1])
        stream = plain(trial.model, x[:, :length])[1]
        change = mean[:length] - torch.from_numpy(phi(x[:, :length].numpy(), None))
        losses_at = loss(trial.model, stream + change, x[:, 1 : length + 1])[0]
        assert found.loss["h/k"][at] == pytest.approx(float(losses_at[torch.from_numpy(of.scored[at, :length])].sum()))
