"""The table of operations: shapes are checked, rows are rows, and the arithmetic is the textbook's."""

from __future__ import annotations

import pytest
import torch
from beartype.roar import BeartypeCallHintParamViolation
from jaxtyping import TypeCheckError
from small import random_tensor

from scrub.graph.ops import OPS

B, H, Q, K, D, M, V = 3, 5, 7, 7, 2, 11, 13  # batch, head, query, key, d_head, d_model, vocab
G = torch.Generator().manual_seed(0)


def run(op: str, *inputs: torch.Tensor, **static: object) -> torch.Tensor:
    function = OPS[op].run
    assert function is not None
    return function(*inputs, **static)


def positions() -> torch.Tensor:
    return torch.arange(Q)[None]


def pattern() -> torch.Tensor:
    q, k = random_tensor(G, B, H, Q, D), random_tensor(G, B, H, K, D)
    return run("attention_pattern", q, k, positions())


@pytest.mark.parametrize(
    ("op", "shapes"),
    [
        ("project", [(B, Q, M), (H, M, D)]),  # d_head and d_model swapped
        ("attend", [(B, H, Q, K), (B, H, D, K + 1)]),
        ("output", [(B, Q, H, D), (H, M, D)]),  # head and position swapped
        ("unembed", [(B, Q, M), (M, V)]),
        ("layer_norm", [(B, Q, M), (M,), (D,)]),
    ],
)
def test_a_transposed_axis_is_an_error(op: str, shapes: list[tuple[int, ...]]) -> None:
    static = {"eps": 1e-5} if op == "layer_norm" else {}
    with pytest.raises((TypeCheckError, BeartypeCallHintParamViolation)):
        run(op, *(random_tensor(G, *shape) for shape in shapes), **static)


def test_an_attention_pattern_reads_nothing_ahead_and_sums_to_one() -> None:
    found = pattern()
    assert torch.equal(found.triu(1), torch.zeros_like(found))
    torch.testing.assert_close(found.sum(-1), torch.ones(B, H, Q, dtype=torch.float64))


def test_an_attention_pattern_of_selected_rows_knows_their_positions() -> None:
    q, k = random_tensor(G, B, H, Q, D), random_tensor(G, B, H, K, D)
    rows = torch.randint(Q, (B, 4), generator=G)
    whole = run("attention_pattern", q, k, positions())
    some = run("attention_pattern", run("select", q, rows), k, rows)
    assert torch.equal(some, run("select", whole, rows))


@pytest.mark.parametrize("mask", ["previous", "last three", "first", "lag 4"])
def test_attending_under_a_mask_is_attending_with_the_masked_pattern(mask: str) -> None:
    lag = torch.arange(Q)[:, None] - torch.arange(K)
    inside = {"previous": lag == 1, "last three": (lag >= 0) & (lag < 3), "lag 4": lag == 4}
    inside["first"] = (torch.arange(K) == 0).expand(Q, K)
    found, v = pattern(), random_tensor(G, B, H, K, D)
    expected = (found * inside[mask]) @ v
    torch.testing.assert_close(run("attend_masked", found, v, positions(), mask=mask), expected, rtol=0, atol=1e-12)


def test_gathered_rows_come_each_from_its_donor() -> None:
    donors = 17
    found = random_tensor(G, donors, H, Q, K)
    donor = torch.randint(donors, (B, Q), generator=G)
    gathered = run("gather_rows", found, donor)
    assert gathered.shape == (B, H, Q, K)
    for b in range(B):
        for i in range(Q):
            assert torch.equal(gathered[b, :, i], found[donor[b, i], :, i])


@pytest.mark.parametrize("shape", [(B, Q, M), (B, H, Q, D), (1, Q, M)])
def test_select_takes_rows_of_any_layout(shape: tuple[int, ...]) -> None:
    x, rows = random_tensor(G, *shape), torch.randint(Q, (B, 4), generator=G)
    found = run("select", x, rows)
    for b in range(B):
        for at in range(4):
            assert torch.equal(found[b, ..., at, :], x.expand(B, *shape[1:])[b, ..., rows[b, at], :])


def test_the_loss_is_cross_entropy() -> None:
    logits, target = random_tensor(G, B, Q, V), torch.randint(V, (B, Q, 1), generator=G)
    loss = run("sub", run("log_normaliser", logits), run("pick", logits, target))
    expected = torch.nn.functional.cross_entropy(logits.flatten(0, 1), target.flatten(), reduction="none")
    torch.testing.assert_close(loss.flatten(), expected, rtol=0, atol=1e-12)


def test_the_divergence_of_predictions() -> None:
    p, q = random_tensor(G, B, Q, V), random_tensor(G, B, Q, V)
    expected = torch.nn.functional.kl_div(q.log_softmax(-1), p.log_softmax(-1), reduction="none", log_target=True).sum(
        -1
    )
    weight = run("probabilities", p)
    mean_difference = run("sub", run("expect", weight, p), run("expect", weight, q))
    found = mean_difference - run("log_normaliser", p) + run("log_normaliser", q)
    torch.testing.assert_close(found[..., 0], expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("op", [name for name, op in OPS.items() if op.run is not None and op.row_inputs(3)])
def test_the_rows_of_the_table_are_rows(op: str) -> None:
    """Every operation that says which inputs' rows are its own works row by row."""
    rows = torch.randint(Q, (B, 4), generator=G)
    stream, logits = random_tensor(G, B, Q, M), random_tensor(G, B, Q, V)
    z, v = random_tensor(G, B, H, Q, D), random_tensor(G, B, H, K, D)
    everywhere = positions().expand(B, Q)
    target = torch.randint(V, (B, Q, 1), generator=G)
    inputs: dict[str, list[torch.Tensor]] = {
        "add": [stream, random_tensor(G, B, Q, M), stream],
        "sub": [z, v],
        "layer_norm": [stream, random_tensor(G, M), random_tensor(G, M)],
        "project": [stream, random_tensor(G, H, D, M)],
        "attention_pattern": [z, v, everywhere],
        "attend": [pattern(), v],
        "attend_masked": [pattern(), v, everywhere],
        "output": [z, random_tensor(G, H, M, D)],
        "unembed": [stream, random_tensor(G, V, M)],
        "log_normaliser": [logits],
        "pick": [logits, target],
        "probabilities": [logits],
        "expect": [logits.softmax(-1), logits],
        "mean_embedding": [logits.softmax(-1), random_tensor(G, V, M)],
        "dot": [stream, random_tensor(G, B, Q, M)],
        "centre": [stream],
        "inverse_deviation": [stream],
        "pick_unembedded": [stream, random_tensor(G, V, M), target],
        "unembed_changed": [logits, z, random_tensor(G, H * D + 1, V), stream[..., :1]],
    }
    inputs["log_normaliser_changed"] = inputs["unembed_changed"]
    eps: dict[str, object] = {"eps": 1e-5}
    static: dict[str, object] = {
        "layer_norm": eps,
        "inverse_deviation": eps,
        "attend_masked": {"mask": "last three"},
    }.get(op, {})
    assert op in inputs, f"say here what {op} takes, so that its rows are tested"
    given = inputs[op]
    chosen = [
        (rows if each is everywhere else run("select", each, rows)) if at in OPS[op].row_inputs(len(given)) else each
        for at, each in enumerate(given)
    ]
    whole = run(op, *given, **static)
    torch.testing.assert_close(run(op, *chosen, **static), run("select", whole, rows), rtol=0, atol=1e-12)
