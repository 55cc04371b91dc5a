"""The table of operations: shapes are checked, rows are rows, and the arithmetic is the textbook's."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from beartype.roar import BeartypeCallHintParamViolation
from jaxtyping import TypeCheckError
from small import random_tensor

from scrub.graph.ops import OPS

B, H, Q, K, D, M, V, W = 3, 5, 7, 7, 2, 11, 13, 17  # batch, head, query, key, d_head, d_model, vocab, width of an MLP
G = torch.Generator().manual_seed(0)


def run(op: str, *inputs: torch.Tensor, **static: object) -> torch.Tensor:
    function = OPS[op].run
    assert function is not None
    return function(*inputs, **static)


def select(x: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """The rows of each sequence at some positions."""
    index = rows.reshape(rows.shape[0], *(1,) * (x.ndim - 3), rows.shape[1], 1)
    x = x.expand(rows.shape[0], *x.shape[1:])
    return x.gather(-2, index.expand(*x.shape[:-2], rows.shape[1], x.shape[-1]))


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
        ("project", [(B, Q, M), (H, D, M), (D, H)]),
        ("linear", [(B, Q, M), (M, W)]),  # as a Conv1D of transformers has it
        ("linear", [(B, Q, M), (W, M), (M,)]),
        ("add_bias", [(B, Q, M), (Q,)]),
        ("attention", [(B, H, Q, D), (B, H, K, D), (B, Q, H, D)]),
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
    some = run("attention_pattern", select(q, rows), k, rows)
    assert torch.equal(some, select(whole, rows))


def test_attention_in_one_is_attending_with_the_pattern() -> None:
    q, k, v = (random_tensor(G, B, H, Q, D, scale=2) for _ in range(3))
    expected = run("attend", run("attention_pattern", q, k, positions()), v)
    torch.testing.assert_close(run("attention", q, k, v), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("slot", ["q", "k", "v"])
def test_attention_carries_what_is_not_a_number(slot: str, dtype: torch.dtype) -> None:
    """At every length: to all later positions from keys and values, to the same position from a query."""
    for length in range(1, 41):
        for d_head in (1, 2, 5):
            for at in {0, length // 2, length - 1}:
                slots = {name: random_tensor(G, 2, 3, length, d_head).to(dtype) for name in "qkv"}
                slots[slot][1, 2, at] = torch.nan
                found = run("attention", *slots.values()).isnan()
                wanted = torch.zeros(2, 3, length, d_head, dtype=torch.bool)
                wanted[1, 2, at : at + 1 if slot == "q" else length] = True
                assert torch.equal(found & wanted, wanted), (length, d_head, at)
                assert not found[0].any()
                assert not found[1, :2].any()
                assert slot != "q" or torch.equal(found, wanted), (length, d_head, at)
                rows = torch.randint(length, (2, 5), generator=G)
                reach = run("in_reach", rows, torch.arange(length)[None])
                some = run("attention", select(slots["q"], rows), slots["k"], slots["v"], reach).isnan()
                wanted = select(wanted, rows)
                assert torch.equal(some & wanted, wanted), (length, d_head, at)
                assert not some[0].any()
                assert not some[1, :2].any()


@pytest.mark.parametrize("length", [1, 7, 31, 32, 41])
@pytest.mark.parametrize("alone", ["q", "k", "v", "qk", "kv", "qv"])
def test_attention_of_what_is_held_for_every_sequence(length: int, alone: str) -> None:
    """One sequence of it beside a batch of the rest is as good as one for each."""
    slots = {name: random_tensor(G, 1 if name in alone else B, H, length, D) for name in "qkv"}
    whole = run("attention", *(each.expand(B, -1, -1, -1) for each in slots.values()))
    torch.testing.assert_close(run("attention", *slots.values()), whole, rtol=0, atol=1e-12)
    rows = torch.randint(length, (B, 4), generator=G)
    some = select(slots.pop("q"), rows)
    found = run("attention", some, *slots.values(), run("in_reach", rows, torch.arange(length)[None]))
    torch.testing.assert_close(found, select(whole, rows), rtol=0, atol=1e-12)


def test_linear_maps_and_their_biases() -> None:
    x, weight, bias = random_tensor(G, B, Q, M), random_tensor(G, W, M), random_tensor(G, W)
    expected = torch.einsum("bpm,wm->bpw", x, weight)
    torch.testing.assert_close(run("linear", x, weight), expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(run("linear", x, weight, bias), expected + bias, rtol=0, atol=1e-12)
    assert torch.equal(run("add_bias", expected, bias), expected + bias)


def test_projections_to_heads_and_their_biases() -> None:
    x, weight, bias = random_tensor(G, B, Q, M), random_tensor(G, H, D, M), random_tensor(G, H, D)
    expected = torch.einsum("bpm,hdm->bhpd", x, weight)
    torch.testing.assert_close(run("project", x, weight), expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(run("project", x, weight, bias), expected + bias[:, None], rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("kind", "formula"),
    [
        ("gelu_tanh", lambda x: x / 2 * (1 + torch.tanh((2 / torch.pi) ** 0.5 * (x + 0.044715 * x**3)))),
        ("gelu", lambda x: x * torch.distributions.Normal(0, 1).cdf(x)),
        ("relu", lambda x: torch.where(x > 0, x, 0)),
    ],
)
def test_activations_are_their_formulas(kind: str, formula: Callable[[torch.Tensor], torch.Tensor]) -> None:
    x = random_tensor(G, B, Q, M, scale=2)
    torch.testing.assert_close(run("activate", x, kind=kind), formula(x), rtol=0, atol=1e-12)


def test_rotary_positions_turn_pairs_as_complex_numbers() -> None:
    x, width = random_tensor(G, B, H, Q, 5), 4
    pairs = torch.complex(x[..., :2], x[..., 2:4])
    angle = torch.arange(Q)[:, None] * torch.tensor([1.0, 100.0**-0.5], dtype=torch.float64)
    turned = torch.view_as_real(pairs * torch.polar(torch.ones_like(angle), angle))
    expected = torch.cat([turned[..., 0], turned[..., 1], x[..., 4:]], -1)
    found = run("rotate", x, run("rotary", positions(), width=width, base=100.0))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16])
def test_a_root_mean_square_is_its_formula(dtype: torch.dtype) -> None:
    """Half floats too, whose squares they can't hold."""
    x, weight = random_tensor(G, B, Q, M, scale=1000).to(dtype), random_tensor(G, M).to(dtype)
    wide = x.double()
    root = (wide.square().mean(-1, keepdim=True) + 1e-5).rsqrt()
    close = {"rtol": 4 * torch.finfo(dtype).eps, "atol": 0}
    torch.testing.assert_close(run("inverse_rms", x, eps=1e-5).double(), root, **close)
    torch.testing.assert_close(run("rms_norm", x, weight, eps=1e-5).double(), wide * root * weight.double(), **close)


def test_capped_scores_are_the_formula() -> None:
    q, k = random_tensor(G, B, H, Q, D, scale=3), random_tensor(G, B, H, K, D)
    scores = 0.7 * torch.tanh(torch.einsum("bhqd,bhkd->bhqk", q, k) * D**-0.5 / 0.7)
    expected = scores.masked_fill(torch.ones(Q, K).triu(1) == 1, -torch.inf).softmax(-1)
    found = run("attention_pattern", q, k, positions(), cap=0.7)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


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
    at = torch.randint(Q, (B, Q), generator=G)
    gathered = run("gather_rows", found, donor, at)
    for b in range(B):
        for i in range(Q):
            assert torch.equal(gathered[b, :, i], found[donor[b, i], :, at[b, i]])


@pytest.mark.parametrize("shape", [(B, Q, M), (B, H, Q, D), (1, Q, M), (1, H, Q, D)])
def test_selected_rows_of_any_layout_are_packed_and_filled(shape: tuple[int, ...]) -> None:
    x = random_tensor(G, *shape)
    packed = run("pack", x, PACKED, of="all")
    filled = run("fill", packed, PACKED, SELECTED)
    assert (packed.shape[0], packed.shape[-2], filled.shape[0], filled.shape[-2]) == (1, 5, 3, 3)
    for number, (sequence, slot, position) in enumerate(PACKED.T.tolist()):
        row = x[sequence if len(x) > 1 else 0, ..., position, :]
        assert torch.equal(packed[0, ..., number, :], row)
        assert torch.equal(filled[sequence, ..., slot, :], row)
    assert not filled[1].any()
    assert not filled[2, ..., 2, :].any()
    assert torch.equal(run("pack", filled, PACKED, of="filled"), packed)


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


EVERYWHERE = positions().expand(B, Q)
STREAM, LOGITS = random_tensor(G, B, Q, M), random_tensor(G, B, Q, V)
HEADS, VALUES, PATTERN = random_tensor(G, B, H, Q, D), random_tensor(G, B, H, K, D), pattern()
TABLE, GAIN, BIAS = random_tensor(G, V, M), random_tensor(G, M), random_tensor(G, M)
OUTPUT, INTO_HEADS = random_tensor(G, H, M, D), random_tensor(G, H, D, M)
TARGET = torch.randint(V, (B, Q, 1), generator=G)
SOME = torch.randint(V, (B, Q, 3), generator=G)
WEIGHTS = torch.tensor([0.5, -1.0, 0.25], dtype=torch.float64).expand(B, Q, 3).contiguous()
EPS = {"eps": 1e-5}
SELECTED = torch.tensor([[1, 4, 6], [0, 0, 0], [2, 3, 0]])  # of which the second sequence has none, and the third two
PACKED = torch.tensor([[0, 0, 0, 2, 2], [0, 1, 2, 0, 1], [1, 4, 6, 2, 3]])
FOLDED = random_tensor(G, H * D + 1, V)
CHANGES, SCALES = ([random_tensor(G, B, Q, width) for _ in range(2)] for width in (H * D + 1, 1))


def estimated(tokens: np.ndarray, width: int) -> np.ndarray:
    return tokens[..., None] * np.arange(1.0, width + 1)


EXAMPLES: dict[str, tuple[list[torch.Tensor], dict[str, object]]] = {  # of every operation: inputs, static arguments
    "embed": ([EVERYWHERE, TABLE], {}),
    "add": ([HEADS, VALUES, HEADS], {}),
    "add_bias": ([STREAM, BIAS], {}),
    "sub": ([HEADS, VALUES], {}),
    "layer_norm": ([STREAM, GAIN, BIAS], EPS),
    "rms_norm": ([HEADS, random_tensor(G, D)], EPS),
    "heads_scale": ([HEADS], EPS),
    "scale_heads": ([HEADS, random_tensor(G, H, D), random_tensor(G, B, 1, Q, 1)], {}),
    "scale": ([STREAM], {"by": 1.7}),
    "soft_cap": ([LOGITS], {"cap": 1.3}),
    "rotary": ([positions()], {"width": 2, "base": 100.0}),
    "rotate": ([random_tensor(G, B, H, Q, 5), run("rotary", EVERYWHERE, width=4, base=100.0)], {}),
    "repeat_kv": ([INTO_HEADS], {"times": 3}),
    "take_heads": ([INTO_HEADS], {"indices": (4, 0, 2)}),
    "select_heads": ([HEADS], {"indices": (4, 0, 2)}),
    "project": ([STREAM, INTO_HEADS, random_tensor(G, H, D)], {}),
    "attention_pattern": ([HEADS, VALUES, EVERYWHERE], {"window": 3, "cap": 0.7}),
    "masked_scores": ([TABLE], {"pad": 2}),
    "attention": ([HEADS, VALUES, random_tensor(G, B, H, K, D), run("in_reach", EVERYWHERE, positions())], {}),
    "in_reach": ([EVERYWHERE, positions()], {}),
    "attend": ([PATTERN, VALUES], {}),
    "attend_masked": ([PATTERN, VALUES, EVERYWHERE], {"mask": "last three"}),
    "output": ([HEADS, OUTPUT], {}),
    "linear": ([STREAM, random_tensor(G, W, M), random_tensor(G, W)], {}),
    "activate": ([STREAM], {"kind": "gelu_tanh"}),
    "unembed": ([STREAM, TABLE], {}),
    "gather_rows": ([PATTERN, torch.randint(B, (B, Q), generator=G)], {}),
    "at_positions": ([HEADS, EVERYWHERE], {"positions": "1, 3..4", "inside": False}),
    "onto": ([HEADS, torch.linalg.qr(random_tensor(G, D, 1))[0].T], {}),
    "estimate": ([EVERYWHERE, torch.ones(1, dtype=torch.float64)], {"of": estimated, "width": M}),
    "typed": ([STREAM, torch.ones(1, dtype=torch.float64)], {}),
    "take_places": ([random_tensor(G, B, W, M), torch.randint(W, (B, Q, 1), generator=G)], {}),
    "pack": ([HEADS, PACKED], {"of": "all"}),
    "fill": ([random_tensor(G, 1, H, PACKED.shape[1], D), PACKED, SELECTED], {}),
    "batch": ([HEADS, HEADS], {}),
    "part_of_batch": ([HEADS], {"index": 2, "of": 3}),
    "later": ([HEADS], {"first": 2, "axis": -2}),
    "join": ([HEADS, HEADS[..., 2:, :]], {"first": 2}),
    "log_normaliser": ([LOGITS], {}),
    "mean_logit": ([LOGITS], {}),
    "mean_row": ([TABLE], {}),
    "pick": ([LOGITS, TARGET], {}),
    "look_up": ([TARGET, TABLE], {}),
    "pick_some": ([LOGITS, SOME], {}),
    "look_up_some": ([STREAM, SOME, TABLE], {}),
    "pick_mean": ([LOGITS, SOME, WEIGHTS], {}),
    "look_up_mean": ([SOME, WEIGHTS, TABLE], {}),
    "probability": ([random_tensor(G, B, Q, 3), SCALES[0], WEIGHTS], {"log": False}),
    "above": ([random_tensor(G, B, Q, 3), WEIGHTS], {}),
    "is_top": ([LOGITS, SOME, WEIGHTS], {}),
    "call": ([LOGITS, random_tensor(G, B, Q, V)], {"function": lambda p, q: (p * q).sum(-1, keepdim=True)}),
    "probabilities": ([LOGITS], {}),
    "expect": ([LOGITS.softmax(-1), LOGITS], {}),
    "mean_embedding": ([LOGITS.softmax(-1), TABLE], {}),
    "dot": ([STREAM, random_tensor(G, B, Q, M)], {}),
    "absolute": ([random_tensor(G, B, H, Q, D)], {}),
    "centre": ([STREAM], {}),
    "inverse_deviation": ([STREAM], EPS),
    "inverse_rms": ([STREAM], EPS),
    "cap_slope": ([LOGITS], {"cap": 1.3}),
    "fold_output": ([OUTPUT, TABLE, random_tensor(G, V)], {}),
    "fold_bias": ([TABLE, BIAS], {}),
    "transpose": ([TABLE], {}),
    "change": ([HEADS, SCALES[0]], {}),
    "changed": ([LOGITS, CHANGES[0], FOLDED, SCALES[0]], {}),
    "log_normalisers_changed": ([LOGITS, FOLDED, *CHANGES, *SCALES], {}),
    "part": ([random_tensor(G, B, 2, Q, 1)], {"index": 1}),
    "spread": ([BIAS, STREAM], {}),
    "stack": ([STREAM, random_tensor(G, B, Q, M), STREAM], {}),
    "sums": ([random_tensor(G, B, 2, Q, M), random_tensor(G, B, 3, Q, M)], {"terms": ((0, 3), (1, 1, 4), (2,))}),
    "multiply": ([STREAM, random_tensor(G, B, Q, 1)], {}),
}


def example(op: str) -> tuple[list[torch.Tensor], dict[str, object]]:
    assert op in EXAMPLES, f"say in EXAMPLES what {op} takes, so that its rows, heads and gradients are tested"
    return EXAMPLES[op]


@pytest.mark.parametrize("op", [name for name, op in OPS.items() if op.head_inputs(3)])
def test_the_heads_of_the_table_are_heads(op: str) -> None:
    """Every operation that says which inputs carry its heads gives some of its heads from some of theirs."""
    inputs, static = example(op)
    carry = OPS[op].head_inputs(len(inputs))

    def of(heads: list[int]) -> torch.Tensor:
        """The result of these heads alone."""
        some = [
            each.index_select(1 if each.shape[0] == B else 0, torch.tensor(heads)) if at in carry else each
            for at, each in enumerate(inputs)
        ]
        return run(op, *some, **static | ({"indices": tuple(range(len(heads)))} if "indices" in static else {}))

    whole, parts = of([0, 1, 2, 3, 4]), [of([3, 1]), of([0, 4, 2])]
    if op == "output":  # which sums over heads
        expected = parts[0] + parts[1]
    else:
        axis = 0 if op == "take_heads" else 1
        expected = torch.cat(parts, axis).index_select(axis, torch.tensor([2, 1, 4, 0, 3]))
    torch.testing.assert_close(expected, whole, rtol=0, atol=1e-12)


@pytest.mark.parametrize("op", [name for name, op in OPS.items() if op.run is not None and op.row_inputs(3)])
def test_the_rows_of_the_table_are_rows(op: str) -> None:
    """Every operation that says which inputs' rows are its own works row by row."""
    (inputs, static), rows = example(op), torch.randint(Q, (B, 4), generator=G)
    chosen = [
        (rows if each is EVERYWHERE else select(each, rows)) if at in OPS[op].row_inputs(len(inputs)) else each
        for at, each in enumerate(inputs)
    ]
    whole = run(op, *inputs, **static)
    torch.testing.assert_close(run(op, *chosen, **static), select(whole, rows), rtol=0, atol=1e-12)


@pytest.mark.parametrize("op", [name for name, op in OPS.items() if op.run is not None])
def test_gradients_flow_through_every_operation(op: str) -> None:
    """To every input that is no whole number, as finite differences have it; and they change no result."""
    inputs, static = example(op)
    if not any(each.is_floating_point() for each in inputs):
        return
    bound = [each.detach().clone().requires_grad_(each.is_floating_point()) for each in inputs]
    assert torch.autograd.gradcheck(lambda *given: run(op, *given, **static), bound)
    torch.testing.assert_close(run(op, *bound, **static), run(op, *inputs, **static), rtol=0, atol=1e-14)


def test_gradients_flow_through_attention_at_many_positions() -> None:
    """Which is another operation of torch than at few."""
    slots = [random_tensor(G, 2, 1, 37, D).requires_grad_() for _ in range(3)]
    assert torch.autograd.gradcheck(lambda *given: run("attention", *given), slots)


@pytest.mark.parametrize("op", [name for name, op in OPS.items() if op.blocks])
@pytest.mark.parametrize("at_once", [1, V, 2 * V, 5 * V + 1, 10**6])
def test_blocks_of_any_size_give_the_same(op: str, at_once: int) -> None:
    inputs, static = example(op)
    whole = run(op, *inputs, **static)
    torch.testing.assert_close(run(op, *inputs, at_once=at_once, **static), whole, rtol=0, atol=1e-12)


def test_a_norm_of_all_heads_of_half_precision_is_that_of_float32() -> None:
    """The squares of its numbers are above what float16 has."""
    x, gain = random_tensor(G, B, H, Q, D, scale=900.0).half(), random_tensor(G, H, D).half()
    found = run("scale_heads", x, gain, run("heads_scale", x, eps=1e-5))
    flat = x.float().movedim(1, 2).flatten(2)
    normed = (flat / flat.square().mean(-1, keepdim=True).sqrt()).unflatten(-1, (H, D)).movedim(2, 1)
    assert found.dtype == torch.float16
    torch.testing.assert_close(found.float(), normed * gain.float()[:, None], rtol=1e-3, atol=1e-3)
