"""Path experiments on GPT-2 against the same interventions on transformers' model, done with plain torch hooks.

Every test says in hooks what its rules say in paths. A path `a/b/** -> y` is patched in two runs, as in path patching
(Wang et al. 2022, https://arxiv.org/abs/2211.00593): in the first, `a` reads what `b` writes on y, everything
else as it is on x; the second, on x, gets what `a` wrote there where the path goes on, and nowhere else.
"""

from __future__ import annotations

from functools import cached_property

import pytest
import torch
from doubles import Change, Point, Seen, double, put
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
        self.x, self.y = (self.theirs.run(self.ours.inputs[source]) for source in ("x", "y"))
        heads = range(self.ours.config.n_heads)
        self.heads = {PREV: [heads[0]], IND: [heads[1], *heads[3:]]}  # of every group
        self.roles = {"prev": [(PREV, h) for h in self.heads[PREV]], "ind": [(IND, h) for h in self.heads[IND]]}

    def ours_under(self, rules: str) -> Tensor:
        return self.ours.logits(Hypothesis(rules).scrub(self.ours.graph, self.roles))

    def check(self, rules: str, expected: Tensor) -> None:
        """The rules give these logits, which aren't those of no rules at all."""
        torch.testing.assert_close(self.ours_under(rules), expected, rtol=0, atol=1e-9)
        assert (expected - self.x.logits).abs().max() > 1e-3

    def patched(self, changes: dict[Point, Change]) -> Seen:
        """A run on the reference with hooks."""
        return self.theirs.run(self.ours.inputs["x"], changes)

    @cached_property
    def prev_change(self) -> Tensor:
        """What a1.prev writes on the other, less what it writes on the reference."""
        return self.written(self.y, PREV) - self.written(self.x, PREV)

    def written(self, seen: Seen, layer: int) -> Tensor:
        """What a layer's group writes into the residual stream."""
        return self.theirs.written(seen, layer, self.heads[layer])

    def mlp_change(self, seen: Seen, layer: int) -> Tensor:
        """What an MLP writes in a run, less what it writes on the reference."""
        return seen.at["mlp", layer] - self.x.at["mlp", layer]

    def ind_reads(self, slots: str, stream: Tensor) -> Seen:
        """The run in which some slots of a3.ind read another residual stream than the one there is."""
        return self.patched({("qkv", IND): self.theirs.read_by(IND, self.heads[IND], slots, stream)})

    def directly(self, change: Tensor) -> Tensor:
        """The logits when only the last LayerNorm reads a change of the residual stream."""
        return self.patched({("stream", self.theirs.layers): lambda stream: stream + change}).logits

    def ind_directly(self, seen: Seen) -> Tensor:
        """The logits when only the last LayerNorm reads what a3.ind wrote in another run."""
        return self.directly(self.written(seen, IND) - self.written(self.x, IND))

    def ind_is(self, z: Tensor) -> Tensor:
        """The logits when a3.ind has read this [batch, head of the group, position, d_head], whoever reads a3.ind."""

        def change(everything: Tensor) -> Tensor:
            everything[..., self.theirs.columns(self.heads[IND])] = z.transpose(1, 2).flatten(2)
            return everything

        return self.patched({("z", IND): change}).logits

    def attention(self, seen: Seen) -> tuple[Tensor, Tensor]:
        """The patterns [batch, head, query, key] and values [batch, head, key, d_head] of a3.ind."""
        values = seen.at["qkv", IND][..., self.theirs.columns(self.heads[IND], "v")]
        values = values.unflatten(-1, (len(self.heads[IND]), -1)).transpose(1, 2)
        return seen.patterns[IND][:, self.heads[IND]], values


@pytest.fixture(scope="module", params=SHAPES, ids=lambda shape: f"seed {shape['seed']}")
def both(request: pytest.FixtureRequest) -> Both:
    return Both(request.param)


def test_a_heads_output_wherever_it_is_read(both: Both) -> None:
    change = put(both.y.at["z", IND], both.theirs.columns(both.heads[IND]))
    both.check("all_paths  **/a3.ind/** -> y", both.patched({("z", IND): change}).logits)


def test_a_heads_output_where_the_logits_read_it(both: Both) -> None:
    both.check("direct  a3.ind/** -> y", both.ind_directly(both.y))
    both.check("direct  a1.prev/** -> y", both.directly(both.prev_change))


@pytest.mark.parametrize("slots", ["q", "k", "v", "qk"])
def test_the_input_of_a_slot(both: Both, slots: str) -> None:
    seen = both.ind_reads(slots, both.y.at["stream", IND])
    steps = "{" + ",".join(slots) + "}"
    both.check(f"part  **/a3.ind/{steps}/** -> y", seen.logits)
    both.check(f"part  a3.ind/{steps}/** -> y", both.ind_directly(seen))


@pytest.mark.parametrize("slot", ["q", "k", "v"])
def test_one_edge_from_head_to_head(both: Both, slot: str) -> None:
    """What lies between, such as m1, a2 and m2, writes what it wrote on x."""
    seen = both.ind_reads(slot, both.x.at["stream", IND] + both.prev_change)
    both.check(f"part  **/a3.ind/{slot}/a1.prev/** -> y", seen.logits)
    both.check(f"part  a3.ind/{slot}/a1.prev/** -> y", both.ind_directly(seen))


def test_everything_but_one_edge(both: Both) -> None:
    seen = both.ind_reads("k", both.y.at["stream", IND] - both.prev_change)
    rules = "part  **/a3.ind/k/** -> y\n      **/a3.ind/k/a1.prev/** -> x"
    both.check(rules, seen.logits)


@pytest.mark.parametrize("slot", ["q", "k", "v"])
def test_a_path_through_two_heads(both: Both, slot: str) -> None:
    """The values of a1.prev, by way of one slot of a3.ind: a1.prev attends as it does on x."""
    change = put(both.y.at["qkv", PREV], both.theirs.columns(both.heads[PREV], "v"))
    difference = both.written(both.patched({("qkv", PREV): change}), PREV) - both.written(both.x, PREV)
    seen = both.ind_reads(slot, both.x.at["stream", IND] + difference)
    both.check(f"part  a3.ind/{slot}/a1.prev/v/** -> y", both.ind_directly(seen))


def test_an_mlp_wherever_it_is_read_and_where_the_logits_read_it(both: Both) -> None:
    both.check("part  **/m2/** -> y", both.patched({("mlp", 2): put(both.y.at["mlp", 2])}).logits)
    both.check("part  m2/** -> y", both.directly(both.mlp_change(both.y, 2)))


def test_an_edge_from_an_mlp_to_a_head(both: Both) -> None:
    seen = both.ind_reads("q", both.x.at["stream", IND] + both.mlp_change(both.y, 1))
    both.check("part  a3.ind/q/m1/** -> y", both.ind_directly(seen))
    both.check("part  **/a3.ind/q/m1/** -> y", seen.logits)


def test_an_edge_from_an_mlp_to_an_mlp(both: Both) -> None:
    seen = both.patched({("ln_2", 3): lambda stream: stream + both.mlp_change(both.y, 1)})
    both.check("part  **/m3/m1/** -> y", seen.logits)
    both.check("part  m3/m1/** -> y", both.directly(both.mlp_change(seen, 3)))


def test_an_edge_from_a_head_to_the_mlp_of_its_layer(both: Both) -> None:
    seen = both.patched({("ln_2", 1): lambda stream: stream + both.prev_change})
    both.check("part  **/m1/a1.prev/** -> y", seen.logits)
    both.check("part  m1/a1.prev/** -> y", both.directly(both.mlp_change(seen, 1)))


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
    change = both.y.at["emb", 0] - both.x.at["emb", 0]
    both.check("part  emb -> y", both.directly(change))
    seen = both.ind_reads("v", both.x.at["stream", IND] + change)
    both.check("part  a3.ind/v/emb -> y", both.ind_directly(seen))


def test_everything_is_the_run_on_the_other(both: Both) -> None:
    both.check("part  ** -> y", both.y.logits)
