"""Scores of every head against plain torch on a transformers model, head by head, query by query."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from doubles import HEADS, LAYERS, Double, random_double
from hypothesis import given, settings
from hypothesis import strategies as st
from small import Small, small
from torch import Tensor

from scrub.data.examples import PROMPTS, REPEATED, TEXT, Examples
from scrub.data.prompts.prompts import as_prompts
from scrub.data.repeated import repeated_tokens
from scrub.graph.node import node, walk
from scrub.measure.heads import definitions
from scrub.measure.heads.definitions import (
    DEFINITIONS,
    Definition,
    definition,
)
from scrub.measure.heads.reading import READINGS
from scrub.measure.heads.scores import score_heads
from scrub.models.model import Model, load_model, make_model
from scrub.text.errors import ScrubError

VOCAB, POSITIONS = 53, 13
NAMES = [*READINGS, "lag 3"]


@dataclass(frozen=True)
class Read:
    """One sequence's run: patterns [layer, head, query, key], what each head writes, the final stream."""

    model: Double
    tokens: list[int]
    patterns: Tensor
    written: Tensor  # [layer, head, position, d_model]
    stream: Tensor  # [position, d_model]

    def ending(self, query: int) -> Callable[[Tensor], Tensor]:
        """The final LayerNorm, with the deviation that the run has at a query, and the unembedding."""
        norm, table = self.model.theirs.transformer.ln_f, self.model.theirs.lm_head.weight
        deviation = (self.stream[query].var(unbiased=False) + norm.eps).sqrt()
        return lambda x: ((x - x.mean()) / deviation * norm.weight + norm.bias) @ table.T

    def direct_effect(self, layer: int, head: int, query: int, target: int) -> float:
        """The derivative of log P(target) along what the head writes."""
        ending, along = self.ending(query), self.written[layer, head, query]
        here = self.stream[query].clone().requires_grad_()
        (gradient,) = torch.autograd.grad(ending(here).log_softmax(-1)[target], here)
        return float(gradient @ along)

    def copying(self, layer: int, head: int, query: int) -> float:
        """The attended token's logit less the mean of all others, by attention."""
        ending = self.ending(query)
        with torch.no_grad():
            logits = (ending(self.written[layer, head, query]) - ending(torch.zeros_like(self.stream[query]))).numpy()
        found = 0.0
        for key in range(query + 1):
            token = self.tokens[key]
            raised = logits[token] - np.delete(logits, token).mean()
            found += float(self.patterns[layer, head, query, key]) * raised
        return found


def read(model: Double, rows: np.ndarray) -> Iterator[Read]:
    """What the model does with each sequence, all but its last token."""
    for row in torch.from_numpy(rows):
        seen = model.run(row[None, :-1])
        written = [torch.cat([model.written(seen, at, head) for head in range(HEADS)]) for at in range(LAYERS)]
        stream = seen.at["stream", LAYERS][0]
        yield Read(model, row[:-1].tolist(), torch.cat(seen.patterns), torch.stack(written), stream)


@pytest.fixture(scope="module")
def theirs() -> Double:
    return random_double(VOCAB, POSITIONS, seed=5)


@pytest.fixture(scope="module")
def model(theirs: Double, tmp_path_factory: pytest.TempPathFactory) -> Model:
    folder = tmp_path_factory.mktemp("gpt2")
    theirs.theirs.save_pretrained(folder)
    theirs.theirs.double()
    return load_model(folder, torch.float64)


def prompts() -> Examples:
    """A B ... A of different lengths between: A is at `first`, and once more in the third prompt."""
    tokens = np.array([[7, 3, 11, 2, 7], [5, 8, 2, 9, 8], [4, 4, 6, 1, 4], [1, 2, 3, 10, 10], [9, 7, 9, 5, 9]])
    first = np.array([0, 1, 1, 3, 2])
    expected = tokens[np.arange(5), first + 1]
    expected[3] = 6  # as of a corrupted prompt: another token stands at the target
    return as_prompts("given", tokens, expected, first, np.full(5, 4), ("",) * 5)


def text() -> Examples:
    tokens = np.random.default_rng(1).integers(0, 6, (7, POSITIONS + 1))
    return Examples(tokens, np.random.default_rng(2).random((7, POSITIONS)) < 0.6)


def repeated() -> Examples:
    return Examples.of_repeated(repeated_tokens(np.arange(1, 9), POSITIONS, 0, 5, seed=3))


EXAMPLES = {PROMPTS: prompts, TEXT: text, REPEATED: repeated}


def keys_of(name: str, tokens: Sequence[int], query: int, target: int | None) -> list[int]:
    """The keys that a score of attention is about."""
    if name == "attention to target":
        return [] if target is None else [target]
    if name == "first position":
        return [0][: query > 0]
    if name == "same token":
        return [key for key in range(query + 1) if tokens[key] == tokens[query]]
    if name == "prefix matching":
        return [key + 1 for key in range(query) if tokens[key] == tokens[query]]
    back = {"current token": 0, "previous token": 1, "lag 3": 3}[name]
    return [query - back][: query >= back]


def one(name: str, run: Read, layer: int, head: int, query: int, following: int, target: int | None) -> float | None:
    """The score of one head at one query, or None where it has no place there."""
    if name == "copying":
        return run.copying(layer, head, query)
    if name == "direct effect":
        return run.direct_effect(layer, head, query, following)
    keys = keys_of(name, run.tokens, query, target)
    return float(run.patterns[layer, head, query, keys].sum()) if keys else None


def target_of(on: str, query: int, sequence: int) -> int | None:
    if on == PROMPTS:
        return int(prompts().positions["first"][sequence]) + 1
    return query - (POSITIONS // 2) + 1 if on == REPEATED else None


@pytest.mark.parametrize(("on", "at_once"), [(PROMPTS, 2), (TEXT, 3), (REPEATED, 1 << 27)])
def test_parity(model: Model, theirs: Double, read_at_once: Callable[[int], None], on: str, at_once: int) -> None:
    """Every score, head by head, sequence by sequence."""
    read_at_once(at_once)
    examples = EXAMPLES[on]()
    names = [name for name in NAMES if on in definition(name).on]
    found = score_heads(model, examples, names)
    assert list(found) == names
    sums = {name: np.zeros((len(examples), LAYERS, HEADS)) for name in names}
    counts = {name: np.zeros(len(examples), int) for name in names}
    for sequence, run in enumerate(read(theirs, examples.tokens)):
        for query in np.flatnonzero(examples.scored[sequence]):
            target = target_of(on, int(query), sequence)
            following = int(examples.tokens[sequence, query + 1])
            for name in names:
                values = [
                    [one(name, run, layer, head, int(query), following, target) for head in range(HEADS)]
                    for layer in range(LAYERS)
                ]
                if values[0][0] is not None:
                    sums[name][sequence] += values
                    counts[name][sequence] += 1
    for name in names:
        np.testing.assert_allclose(found[name].sums, sums[name], atol=1e-10, rtol=1e-10, err_msg=name)
        np.testing.assert_array_equal(found[name].counts, counts[name], err_msg=name)
        assert np.abs(sums[name]).max() > 1e-3
        assert (found[name].on, found[name].unit) == (on, definition(name).unit)


def test_direct_effect_of_a_small_push(model: Model, theirs: Double) -> None:
    """A little more of what a head writes changes log P(target) by that much times its direct effect."""
    on = prompts()
    found = score_heads(model, on, ["direct effect"])["direct effect"]
    for sequence, run in enumerate(read(theirs, on.tokens)):
        ending, little, last = run.ending(4), 1e-5, run.stream[4]
        for layer, head in np.ndindex(LAYERS, HEADS):
            along = little * run.written[layer, head, 4]
            more, less = (
                ending(each).log_softmax(-1)[int(on.expected[sequence])] for each in (last + along, last - along)
            )
            assert (more - less).item() / (2 * little) == pytest.approx(found.sums[sequence, layer, head], abs=1e-7)


@pytest.mark.parametrize("biases", [(), ("q", "k", "v", "o", "unembed")])
@pytest.mark.parametrize("positions", ["shortformer", "standard"])
def test_models_with_attention_alone(positions: str, biases: tuple[str, ...]) -> None:
    """Also where the unembedding has a bias, and attention's output: no head has a part in those."""
    ours = small(positions=positions, biases=biases)
    model = make_model("small", ours.config, ours.params)
    rows = torch.cat([ours.inputs["x"], ours.inputs["target"][:, -1]], 1)
    found = score_heads(model, Examples(rows.numpy(), np.ones((3, 7), dtype=bool)))
    written, stream = heads_write(ours)
    p, eps = ours.params, ours.config.layer_norm_eps
    deviation = (stream.var(-1, unbiased=False, keepdim=True) + eps).sqrt()

    def logits(x: torch.Tensor) -> torch.Tensor:
        normed = (x - x.mean(-1, keepdim=True)) / deviation * p["final_ln.weight"] + p["final_ln.bias"]
        return normed @ p["unembed.weight"].T + p.get("unembed.bias", torch.zeros(13, dtype=x.dtype))

    here = stream.clone().requires_grad_()
    chosen = logits(here).log_softmax(-1).gather(-1, rows[:, 1:, None])
    (gradient,) = torch.autograd.grad(chosen.sum(), here)
    effects = torch.einsum("bpm,lhbpm->blh", gradient, written)
    np.testing.assert_allclose(found["direct effect"].sums, effects, atol=1e-10)
    raised = logits(written) - logits(torch.zeros_like(stream))  # [layer, head, batch, position, vocab]
    raised = raised - (raised.sum(-1, keepdim=True) - raised) / 12
    attended = raised.gather(-1, ours.inputs["x"][None, None, :, None].expand(2, 5, 3, 7, 7))
    patterns = ours.run(
        {str(at): each for at, each in enumerate(n for n in walk([ours.graph]) if n.op == "attention_pattern")}
    )
    weighted = torch.stack(list(patterns.values())).transpose(1, 2) * attended
    np.testing.assert_allclose(found["copying"].sums, weighted.sum((-1, -2)).permute(2, 0, 1), atol=1e-10)


def heads_write(ours: Small) -> tuple[torch.Tensor, torch.Tensor]:
    """What each head writes [layer, head, batch, position, d_model], and the stream before the final LayerNorm."""
    layers = [each for each in walk([ours.graph]) if each.op == "output"]
    z = ours.run({str(at): each.inputs[0] for at, each in enumerate(layers)})
    written = [torch.einsum("bhpd,hmd->hbpm", z[str(at)], ours.params[f"layers.{at}.wo"]) for at in range(len(layers))]
    (final,) = (each.inputs[0] for each in walk([ours.graph]) if each.op == "unembed")
    return torch.stack(written), ours.run({"stream": node("add", final.inputs[0])})["stream"]


@settings(max_examples=15)  # each compiles a plan
@given(st.data())
def test_attention_that_is_uniform(data: st.DataObject) -> None:
    """Without weights every query attends alike to all positions so far: scores are counts of keys."""
    shape = small()
    flat = make_model("flat", shape.config, {name: torch.zeros_like(value) for name, value in shape.params.items()})
    count = data.draw(st.integers(1, 4))
    tokens = np.array(
        data.draw(st.lists(st.lists(st.integers(0, 3), min_size=8, max_size=8), min_size=count, max_size=count))
    )
    scored = np.array(
        data.draw(st.lists(st.lists(st.booleans(), min_size=7, max_size=7), min_size=count, max_size=count))
    )
    scored[0, 3] = True
    names = [name for name in NAMES if "attention" in definition(name).says and TEXT in definition(name).on]
    names.remove("copying")
    found = score_heads(flat, Examples(tokens, scored), names)
    for name in names:
        keys = [
            [keys_of(name, row, int(query), None) and len(keys_of(name, row, int(query), None)) / (query + 1)
             for query in np.flatnonzero(at)]
            for row, at in zip(tokens.tolist(), scored, strict=True)
        ]  # fmt: skip
        wanted = [sum(each or 0 for each in row) for row in keys]
        np.testing.assert_allclose(found[name].sums, np.broadcast_to(np.reshape(wanted, (-1, 1, 1)), (count, 2, 5)))
        np.testing.assert_array_equal(found[name].counts, [sum(bool(each) for each in row) for row in keys])


def test_one_pass_gives_what_single_ones_do(model: Model) -> None:
    together = score_heads(model, text())
    assert list(together) == [name for name in NAMES if name not in {"attention to target", "lag 3"}]
    for name, score in together.items():
        alone = score_heads(model, text(), [name])[name]
        np.testing.assert_allclose(alone.sums, score.sums, atol=1e-12, err_msg=name)
        np.testing.assert_allclose(alone.resampled, score.resampled, atol=1e-12)


def test_prompts_and_text_are_examples(model: Model) -> None:
    on = prompts()
    assert on.tokens.shape == (5, 6)
    np.testing.assert_array_equal(np.argwhere(on.scored), [[at, 4] for at in range(5)])
    np.testing.assert_array_equal(np.argwhere(Examples.of(on.tokens).later(3).scored[0]), [[3], [4]])
    in_memory = torch.from_numpy(text().tokens)  # of which positions from 2 on are scored
    for each, alike in zip(
        score_heads(model, in_memory).values(), score_heads(model, Examples.of(in_memory)).values(), strict=True
    ):
        np.testing.assert_array_equal(each.sums, alike.sums)
        assert each.counts.max() <= POSITIONS - 2
    np.testing.assert_array_equal(np.flatnonzero(repeated().scored[0]), range(7, 12))  # a begin token, 6 and 6


MISTAKES: dict[str, tuple[Callable[[], Examples], list[str] | None, str]] = {
    "no score": (text, ["prefix"], "score 'prefix'"),
    "no lag": (text, ["lag N"], "'lag N'"),
    "far back": (text, ["lag 13"], "'lag 13'"),
    "not there": (text, ["attention to target"], "'attention to target'"),
    "too long": (lambda: Examples.of(np.zeros((2, 17), int)), None, " 16 positions"),
    "too short": (lambda: Examples.of(np.zeros((2, 3), int)), None, "no position"),
    "unknown token": (lambda: Examples.of(np.full((2, 9), 53)), None, "0 to 52"),
}


@pytest.mark.parametrize(("on", "names", "says"), MISTAKES.values(), ids=MISTAKES)
def test_mistakes(model: Model, on: Callable[[], Examples], names: list[str] | None, says: str) -> None:
    with pytest.raises(ScrubError) as raised:
        score_heads(model, on(), names)
    assert says in str(raised.value)
    assert "\n" not in str(raised.value)


def test_every_definition_is_read() -> None:
    """And says what it is, in which unit, and where it is from."""
    assert set(READINGS) | {"lag N"} <= set(DEFINITIONS)
    lines = ["| score | what it is | unit | measured on | source |", "|---|---|---|---|---|"]
    for each in DEFINITIONS.values():
        assert all(vars(each).values())
        lines.append(f"| {each.name} | {each.says} | {each.unit} | {', '.join(each.on)} | {each.source} |")
    page = Path(__file__).parents[3] / "docs" / "scores.md"
    assert "\n".join(lines) + "\n" in page.read_text(), "write them into docs/scores.md again"
    assert (definition("lag 100").says.count("100"), definition("lag 100").name) == (1, "lag 100")


def test_what_only_an_intervention_tells(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its definition may stand among the others, and isn't asked for unless named."""
    other = Definition("ablation effect", "what is lost", "probability", "a paper")
    monkeypatch.setattr(definitions, "DEFINITIONS", {**DEFINITIONS, other.name: other})
    with pytest.raises(ScrubError, match="'ablation effect'"):
        score_heads(model, prompts(), [other.name])
    assert other.name not in score_heads(model, prompts())


def test_nothing_asked_for(model: Model) -> None:
    assert score_heads(model, prompts(), []) == {}
