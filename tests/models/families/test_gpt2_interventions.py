"""Path experiments on GPT-2 against the same interventions on transformers' model, done with plain torch hooks.

Every test says in hooks what its rules say in paths. A path `a/b/** -> y` is patched in two runs, as in path patching
(Wang et al. 2022, https://arxiv.org/abs/2211.00593): in the first, `a` reads what `b` writes on y, everything
else as it is on x; the second, on x, gets what `a` wrote there where the path goes on, and nowhere else.
"""

from __future__ import annotations

from functools import cached_property

import pytest
import torch
from gpt2_double import Change, Seen, double, run
from small import Small, small_gpt2
from torch import Tensor

from scrub.study.hypothesis import Hypothesis

PREV, IND = 1, 3  # the layers of the two groups of heads; layers 0 and 2, and perhaps 4, are bystanders
SHAPES: list[dict[str, object]] = [
    {"n_layers": 4, "n_heads": 3, "d_head": 5, "d_model": 15, "d_mlp": 23, "n_ctx": 7, "seed": 1},
    {"n_layers": 5, "n_heads": 5, "d_head": 2, "d_model": 10, "d_mlp": 13, "n_ctx": 11, "seed": 2},
    {"n_layers": 5, "n_heads": 2, "d_head": 7, "d_model": 14, "d_mlp": 11, "n_ctx": 5, "seed": 3, "tied": False},
]


class Both:
    """A model and its double, what the double does on the reference and on the other, and what hooks it needs."""

    def __init__(self, shape: dict[str, object]) -> None:
        self.ours: Small = small_gpt2(**shape)  # type: ignore[arg-type]
        self.theirs = double(self.ours)
        self.x, self.y = (run(self.theirs, self.ours.inputs[source]) for source in ("x", "y"))
        heads = range(self.ours.config.n_heads)
        self.heads = {PREV: [heads[0]], IND: [heads[1], *heads[3:]]}  # of every group
        self.roles = {"prev": [(PREV, h) for h in self.heads[PREV]], "ind": [(IND, h) for h in self.heads[IND]]}

    def ours_under(self, rules: str) -> Tensor:
        return self.ours.logits(Hypothesis(rules).scrub(self.ours.graph, self.roles))

    def check(self, rules: str, expected: Tensor) -> None:
        """The rules give these logits, which aren't those of no rules at all."""
        torch.testing.assert_close(self.ours_under(rules), expected, rtol=0, atol=1e-9)
        assert (expected - self.x.logits).abs().max() > 1e-3

    def patched(self, *, reads: dict[str, Change] | None = None, writes: dict[str, Change] | None = None) -> Seen:
        """A run on the reference with hooks."""
        return run(self.theirs, self.ours.inputs["x"], reads, writes)

    def columns(self, layer: int, slot: str = "q") -> list[int]:
        """Where a layer's group stands among all heads side by side: in c_proj's input, or c_attn's output by slot."""
        c = self.ours.config
        first = "qkv".index(slot) * c.d_model
        return [first + head * c.d_head + at for head in self.heads[layer] for at in range(c.d_head)]

    def written(self, z: Tensor, layer: int) -> Tensor:
        """What a layer's group writes into the residual stream, from what all heads have read."""
        columns = self.columns(layer)
        return z[..., columns] @ self.theirs.transformer.h[layer].attn.c_proj.weight[columns].detach()

    @cached_property
    def prev_change(self) -> Tensor:
        """What a1.prev writes on the other, less what it writes on the reference."""
        name = f"h.{PREV}.attn.c_proj"
        return self.written(self.y.read[name], PREV) - self.written(self.x.read[name], PREV)

    def mlp_change(self, layer: int) -> Tensor:
        """The same of an MLP."""
        return self.y.wrote[f"h.{layer}.mlp"] - self.x.wrote[f"h.{layer}.mlp"]

    def ind_reads(self, slots: str, stream: Tensor) -> Seen:
        """The run in which some slots of a3.ind read another residual stream than the one there is."""
        block = self.theirs.transformer.h[IND]

        def change(projected: Tensor) -> Tensor:
            with torch.no_grad():
                instead = block.attn.c_attn.forward(block.ln_1.forward(stream))  # not called: that would hook again
            for slot in slots:
                columns = self.columns(IND, slot)
                projected[..., columns] = instead[..., columns]
            return projected

        return self.patched(writes={f"h.{IND}.attn.c_attn": change})

    def directly(self, change: Tensor) -> Tensor:
        """The logits when only the last LayerNorm reads a change of the residual stream."""
        return self.patched(reads={"ln_f": lambda stream: stream + change}).logits

    def ind_directly(self, seen: Seen) -> Tensor:
        """The logits when only the last LayerNorm reads what a3.ind wrote in another run."""
        name = f"h.{IND}.attn.c_proj"
        return self.directly(self.written(seen.read[name], IND) - self.written(self.x.read[name], IND))

    def ind_is(self, z: Tensor) -> Tensor:
        """The logits when a3.ind has read this [batch, head of the group, position, d_head], whoever reads a3.ind."""

        def change(everything: Tensor) -> Tensor:
            everything[..., self.columns(IND)] = z.transpose(1, 2).flatten(2)
            return everything

        return self.patched(reads={f"h.{IND}.attn.c_proj": change}).logits

    def attention(self, seen: Seen) -> tuple[Tensor, Tensor]:
        """The patterns [batch, head, query, key] and values [batch, head, key, d_head] of a3.ind."""
        values = seen.wrote[f"h.{IND}.attn.c_attn"][..., self.columns(IND, "v")]
        values = values.unflatten(-1, (len(self.heads[IND]), -1)).transpose(1, 2)
        return seen.patterns[IND][:, self.heads[IND]], values


@pytest.fixture(scope="module", params=SHAPES, ids=lambda shape: f"seed {shape['seed']}")
def both(request: pytest.FixtureRequest) -> Both:
    return Both(request.param)


def test_a_heads_output_wherever_it_is_read(both: Both) -> None:
    columns, other = both.columns(IND), both.y.read[f"h.{IND}.attn.c_proj"]

    def change(z: Tensor) -> Tensor:
        z[..., columns] = other[..., columns]
        return z

    both.check("all_paths  **/a3.ind/** -> y", both.patched(reads={f"h.{IND}.attn.c_proj": change}).logits)


def test_a_heads_output_where_the_logits_read_it(both: Both) -> None:
    both.check("direct  a3.ind/** -> y", both.ind_directly(both.y))
    both.check("direct  a1.prev/** -> y", both.directly(both.prev_change))


@pytest.mark.parametrize("slots", ["q", "k", "v", "qk"])
def test_the_input_of_a_slot(both: Both, slots: str) -> None:
    seen = both.ind_reads(slots, both.y.read[f"h.{IND}.ln_1"])
    steps = "{" + ",".join(slots) + "}"
    both.check(f"part  **/a3.ind/{steps}/** -> y", seen.logits)
    both.check(f"part  a3.ind/{steps}/** -> y", both.ind_directly(seen))


@pytest.mark.parametrize("slot", ["q", "k", "v"])
def test_one_edge_from_head_to_head(both: Both, slot: str) -> None:
    """What lies between, such as m1, a2 and m2, writes what it wrote on x."""
    seen = both.ind_reads(slot, both.x.read[f"h.{IND}.ln_1"] + both.prev_change)
    both.check(f"part  **/a3.ind/{slot}/a1.prev/** -> y", seen.logits)
    both.check(f"part  a3.ind/{slot}/a1.prev/** -> y", both.ind_directly(seen))


def test_everything_but_one_edge(both: Both) -> None:
    seen = both.ind_reads("k", both.y.read[f"h.{IND}.ln_1"] - both.prev_change)
    rules = "part  **/a3.ind/k/** -> y\n      **/a3.ind/k/a1.prev/** -> x"
    both.check(rules, seen.logits)


@pytest.mark.parametrize("slot", ["q", "k", "v"])
def test_a_path_through_two_heads(both: Both, slot: str) -> None:
    """The values of a1.prev, by way of one slot of a3.ind: a1.prev attends as it does on x."""
    columns, other = both.columns(PREV, "v"), both.y.wrote[f"h.{PREV}.attn.c_attn"]

    def change(projected: Tensor) -> Tensor:
        projected[..., columns] = other[..., columns]
        return projected

    name = f"h.{PREV}.attn.c_proj"
    z = both.patched(writes={f"h.{PREV}.attn.c_attn": change}).read[name]
    difference = both.written(z, PREV) - both.written(both.x.read[name], PREV)
    seen = both.ind_reads(slot, both.x.read[f"h.{IND}.ln_1"] + difference)
    both.check(f"part  a3.ind/{slot}/a1.prev/v/** -> y", both.ind_directly(seen))


def test_an_mlp_wherever_it_is_read_and_where_the_logits_read_it(both: Both) -> None:
    both.check("part  **/m2/** -> y", both.patched(writes={"h.2.mlp": lambda _: both.y.wrote["h.2.mlp"]}).logits)
    both.check("part  m2/** -> y", both.directly(both.mlp_change(2)))


def test_an_edge_from_an_mlp_to_a_head(both: Both) -> None:
    seen = both.ind_reads("q", both.x.read[f"h.{IND}.ln_1"] + both.mlp_change(1))
    both.check("part  a3.ind/q/m1/** -> y", both.ind_directly(seen))
    both.check("part  **/a3.ind/q/m1/** -> y", seen.logits)


def test_an_edge_from_an_mlp_to_an_mlp(both: Both) -> None:
    seen = both.patched(reads={"h.3.ln_2": lambda stream: stream + both.mlp_change(1)})
    both.check("part  **/m3/m1/** -> y", seen.logits)
    both.check("part  m3/m1/** -> y", both.directly(seen.wrote["h.3.mlp"] - both.x.wrote["h.3.mlp"]))


def test_an_edge_from_a_head_to_the_mlp_of_its_layer(both: Both) -> None:
    seen = both.patched(reads={"h.1.ln_2": lambda stream: stream + both.prev_change})
    both.check("part  **/m1/a1.prev/** -> y", seen.logits)
    both.check("part  m1/a1.prev/** -> y", both.directly(seen.wrote["h.1.mlp"] - both.x.wrote["h.1.mlp"]))


def test_a_mask_keeps_what_lies_inside_it(both: Both) -> None:
    """Inside the mask attention and values of x, outside of y."""
    (on_x, v_x), (on_y, v_y) = both.attention(both.x), both.attention(both.y)
    lag = torch.arange(on_x.shape[-1])[:, None] - torch.arange(on_x.shape[-1])
    splits = 'splits  **/a3.ind by mask "previous"\n'
    z = (on_x * (lag == 1)) @ v_x + (on_y * (lag != 1)) @ v_y
    both.check(splits + "part  **/a3.ind[rest]/** -> y", both.ind_is(z))
    z = (on_x * (lag == 1)) @ v_x + (on_x * (lag != 1)) @ v_y
    both.check(splits + "part  **/a3.ind[rest]/v/** -> y", both.ind_is(z))


def test_identity_attention_and_its_error(both: Both) -> None:
    (on_x, v_x), (on_y, v_y) = both.attention(both.x), both.attention(both.y)
    splits = "splits  **/a3.ind by identity\n"
    both.check(splits + "part  **/a3.ind[error]/** -> y", both.ind_is(v_x + (on_y @ v_y - v_y)))
    both.check(splits + "part  **/a3.ind[identity]/** -> y", both.ind_is(v_y + (on_x @ v_x - v_x)))


def test_the_direct_path_of_the_embedding(both: Both) -> None:
    """The positions are the model's, whatever is resampled."""
    change = both.y.wrote["wte"] - both.x.wrote["wte"]
    both.check("part  emb -> y", both.directly(change))
    seen = both.ind_reads("v", both.x.read[f"h.{IND}.ln_1"] + change)
    both.check("part  a3.ind/v/emb -> y", both.ind_directly(seen))


def test_everything_is_the_run_on_the_other(both: Both) -> None:
    both.check("part  ** -> y", both.y.logits)
