"""Beliefs that are false although an ordinary run can't tell: scrubbing must.

Each case has a model and an impostor that computes the same outputs in another way, on the data of the case. The
belief describes the impostor. So no look at inputs and outputs can refute it, and it scores 100 % on the impostor;
scrubbing must score it low on the model.

The models are made by hand. Tokens are one-hot, and the LayerNorms are undone by their own weights, so that what
heads read is what was written, in whole numbers. Every head attends to one position, at a fixed lag.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from small import Small, rules
from torch import Tensor

from scrub.models.families.attention_only import Config
from scrub.study import statistics

VOCAB, CONTEXT, BATCH = 3, 5, 61
TOKEN, PLACE, COPY, ASIDE, OUT = 0, 3, 8, 11, 14  # where each block of the residual stream begins
D_MODEL, D_HEAD = 17, 5
LAST = CONTEXT - 1  # the position whose prediction counts


@dataclass(frozen=True)
class Head:
    """Copies what it reads `lag` positions back, `times` so strong."""

    lag: int
    times: int = 1
    reads: int = TOKEN
    writes: int = OUT


NOTHING = Head(0, times=0)


def block(begin: int, size: int) -> Tensor:
    """The matrix [d_head, d_model] that reads a block of the residual stream."""
    return torch.eye(D_MODEL, dtype=torch.float64)[begin : begin + size]


def by_hand(*layers: Sequence[Head]) -> Small:
    """The model with these heads."""
    config = Config(
        n_layers=len(layers),
        n_heads=len(layers[0]),
        d_model=D_MODEL,
        d_head=D_HEAD,
        n_ctx=CONTEXT,
        vocab_size=VOCAB,
        bos_token_id=0,
        positions="shortformer",
        layer_norm_eps=1e-12,
    )
    params = {
        "embed.weight": block(TOKEN, VOCAB),
        "pos.weight": block(PLACE, CONTEXT),
        "unembed.weight": 10 * block(OUT, VOCAB),
        "final_ln.weight": torch.ones(D_MODEL, dtype=torch.float64),
        "final_ln.bias": torch.zeros(D_MODEL, dtype=torch.float64),
    }
    for at, heads in enumerate(layers):
        # A layer reads a sum of so many one-hot vectors, apart: of that mean and deviation, so LayerNorm is undone.
        mean = (1 + sum(head.times for before in layers[:at] for head in before)) / D_MODEL
        deviation = (mean * (1 - mean)) ** 0.5
        weights: dict[str, list[Tensor]] = {slot: [] for slot in "qkvo"}
        for head in heads:
            back = torch.zeros(D_HEAD, CONTEXT, dtype=torch.float64)  # one-hot position i -> i - lag
            back.diagonal(head.lag).fill_(1)
            weights["q"].append(300 * back @ block(PLACE, CONTEXT))  # so the score there is 300 / sqrt(5), else 0
            weights["k"].append(block(PLACE, CONTEXT))
            padding = torch.zeros(D_HEAD - VOCAB, D_MODEL, dtype=torch.float64)
            weights["v"].append(torch.cat([block(head.reads, VOCAB), padding]))
            weights["o"].append(head.times * torch.cat([block(head.writes, VOCAB), padding]).T)
        params |= {f"layers.{at}.w{slot}": torch.stack(each) for slot, each in weights.items()}
        params[f"layers.{at}.ln.weight"] = torch.full((D_MODEL,), deviation, dtype=torch.float64)
        params[f"layers.{at}.ln.bias"] = torch.full((D_MODEL,), mean, dtype=torch.float64)
    return Small(config, params, {})


def sequences(seed: int) -> Tensor:
    return torch.randint(VOCAB, (BATCH, CONTEXT), generator=torch.Generator().manual_seed(seed))


def lag(tokens: Tensor, by: int) -> Tensor:
    """The token so far before the last."""
    return tokens[:, LAST - by]


def twins(tokens: Tensor) -> Tensor:
    """Sequences in which the tokens one and two before the last are the same."""
    tokens = tokens.clone()
    tokens[:, LAST - 2] = tokens[:, LAST - 1]
    return tokens


def either(tokens: Tensor) -> Tensor:
    """The token one before the last in every other sequence, two before it in the rest."""
    return torch.where(torch.arange(BATCH) % 2 == 0, lag(tokens, 1), lag(tokens, 2))


@dataclass(frozen=True)
class Case:
    """`truth` is a belief that describes the model, `belief` one that describes the impostor."""

    model: Small
    impostor: Small
    splits: list[str]
    belief: list[str]
    truth: list[str]
    target: Callable[[Tensor], Tensor]
    data: Callable[[Tensor], Tensor] = lambda tokens: tokens


CASES = {
    # Heads 0 and 1 write the previous token, twice and minus twice: together nothing. Head 2 gives the answer. The
    # belief that head 1 is idle is false: without it, head 0 outvotes head 2, two to one.
    "cancelling intermediates": Case(
        model=by_hand([Head(1, 2), Head(1, -2), Head(2)]),
        impostor=by_hand([NOTHING, NOTHING, Head(2)]),
        splits=["a0 by heads 0 1 2"],
        belief=["a0.1 -> y"],
        truth=["emb -> y", "a0.{0,1} -> y"],
        target=lambda tokens: lag(tokens, 2),
    ),
    # The same when both are believed idle, but each is fed from an input of its own.
    "cancelling intermediates, apart": Case(
        model=by_hand([Head(1, 2), Head(1, -2), Head(2)]),
        impostor=by_hand([NOTHING, NOTHING, Head(2)]),
        splits=["a0 by heads 0 1 2"],
        belief=["a0.0 -> y", "a0.1 -> like f"],
        truth=["emb -> y", "a0.{0,1} -> like f"],
        target=lambda tokens: lag(tokens, 2),
    ),
    # Head 0 brings the token before, head 1 the one before that. Their sum doesn't show which brought which.
    "swapped intermediates": Case(
        model=by_hand([Head(1), Head(2)]),
        impostor=by_hand([Head(2), Head(1)]),
        splits=["a0 by heads 0 1", 'a0.0 by mask "lag 2"', 'a0.1 by mask "previous"'],
        belief=["** -> y", "a0.0[lag 2]/v -> x", "a0.1[previous]/v -> x"],
        truth=["** -> y", "a0.0[rest]/v -> x", "a0.1[rest]/v -> x"],
        target=either,
    ),
    # The answer is spread over seven heads. Head 0 looks at the right token and writes the right answer, and any one
    # head can be scrubbed with no harm: yet head 0 alone is outvoted, one to six.
    "information spread over the residual stream": Case(
        model=by_hand([Head(1)] * 7),
        impostor=by_hand([Head(1, 7)] + [NOTHING] * 6),
        splits=["a0 by heads 0 1 2 3 4 5 6"],
        belief=["** -> y", "a0.0 -> x"],
        truth=["** -> y", "a0.* -> x"],
        target=lambda tokens: lag(tokens, 1),
    ),
    # In this data the tokens one and two back are always the same, in reference and other alike. The head reads the
    # first of them.
    "correlated data": Case(
        model=by_hand([Head(1)]),
        impostor=by_hand([Head(2)]),
        splits=['a0 by mask "lag 2"'],
        belief=["** -> y", "a0[lag 2]/v -> x"],
        truth=["** -> y", "a0[rest]/v -> x"],
        target=lambda tokens: lag(tokens, 2),
        data=twins,
    ),
    # Layer 0 copies the previous token; layer 1 reads that copy one further back. The belief that it reads the token
    # itself, two back, has the right token and the wrong way.
    "a detour for an edge": Case(
        model=by_hand([Head(1, writes=COPY)], [Head(1, reads=COPY)]),
        impostor=by_hand([Head(1, writes=COPY)], [Head(2)]),
        splits=[],
        belief=["a1/v/** -> y", "a1/v/emb -> x"],
        truth=["a1/v/** -> y", "a1/v/a0/v/emb -> x"],
        target=lambda tokens: lag(tokens, 2),
    ),
    # Two layer-0 heads copy tokens into places of their own; layer 1 reads one of the places. Which head a value came
    # through is believed the wrong way round.
    "swapped edges": Case(
        model=by_hand([Head(1, writes=COPY), Head(2, writes=ASIDE)], [Head(1, reads=COPY), NOTHING]),
        impostor=by_hand([Head(2, writes=ASIDE), Head(1, writes=COPY)], [Head(1, reads=COPY), NOTHING]),
        splits=["**/a0 by heads 0 1"],
        belief=["a1/v/** -> y", "a1/v/a0.1/v/emb -> x"],
        truth=["a1/v/** -> y", "a1/v/a0.0/v/emb -> x"],
        target=lambda tokens: lag(tokens, 2),
    ),
}


def loss(model: Small, case: Case, *rule: str) -> float:
    """The mean loss in nats at the last position."""
    sources = {source: case.data(sequences(seed)) for seed, source in enumerate(["x", "y", "like f"])}
    fed = Small(model.config, model.params, sources)
    logits = fed.logits(rules(fed.split(*case.splits), *rule))[:, LAST]
    return float(torch.nn.functional.cross_entropy(logits, case.target(sources["x"])))


def recovered(model: Small, case: Case, *rule: str) -> float:
    """Percent of loss recovered, between the unscrubbed model and everything scrubbed."""
    unscrubbed, baseline = loss(model, case), loss(model, case, "** -> y")
    assert baseline - unscrubbed > 1
    losses = [np.array([each]) for each in (loss(model, case, *rule), baseline, unscrubbed)]
    return float(statistics.recovered(*losses)[0])


@pytest.fixture(params=CASES, ids=list(CASES))
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


def test_an_ordinary_run_cant_tell(case: Case) -> None:
    tokens = case.data(sequences(0))
    outputs = [
        Small(each.config, each.params, {"x": tokens}).logits(each.graph) for each in (case.model, case.impostor)
    ]
    torch.testing.assert_close(outputs[0][:, LAST], outputs[1][:, LAST], rtol=0, atol=1e-9)


def test_the_belief_is_false(case: Case) -> None:
    assert recovered(case.model, case, *case.belief) < 35


def test_the_belief_would_be_true_of_the_impostor(case: Case) -> None:
    assert recovered(case.impostor, case, *case.belief) == pytest.approx(100, abs=1e-9)


def test_the_truth_is_true(case: Case) -> None:
    assert recovered(case.model, case, *case.truth) == pytest.approx(100, abs=1e-9)


def test_keeping_everything_is_exactly_100_and_nothing_exactly_0(case: Case) -> None:
    assert recovered(case.model, case, "** -> y", "** -> x") == 100
    assert recovered(case.model, case, *case.belief, "** -> y") == 0


def test_one_scrubbed_head_of_seven_does_no_harm() -> None:
    spread = CASES["information spread over the residual stream"]
    for head in range(7):
        assert recovered(spread.model, spread, f"a0.{head} -> y") > 99
