"""Small random models, and running graphs of them. Every axis has its own prime size."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from scrub.graph.node import Node, walk
from scrub.graph.ops import OPS
from scrub.models.families import ModelConfig, decoder, gpt2
from scrub.models.families.attention_only import Config
from scrub.models.model import Model, lower, make_model
from scrub.paths.pattern import Pattern
from scrub.paths.roles import Roles
from scrub.paths.rules import Rule, resample
from scrub.paths.splits import Split
from scrub.plan.leaves import every_row, leaves_of
from scrub.plan.plan import Plan, compile_plan

_NORM = r"ln\d?(_post)?\.|_norm\."  # the parameters of norms
DECLARED = ("A like f", "B like g of A like f", "R rows like f", "S rows like g of A like f", "T rows anywhere like f")
ROLES: Roles = {"prev": [(0, 1)], "self": [(0, 0), (0, 4)], "ind": [(1, 2), (1, 3)]}


@dataclass(frozen=True)
class Small:
    """A model, its graph, and what feeds it: tokens of each source, "donor SOURCE", "selected" and "target"."""

    config: Config | gpt2.Config | decoder.Config
    params: Mapping[str, Tensor]
    inputs: Mapping[str, Tensor]
    graph: Node = field(init=False)
    own: dict[Node, Tensor] = field(init=False, default_factory=dict)  # what components give, where something asked

    def __post_init__(self) -> None:
        object.__setattr__(self, "graph", lower(self.config))

    def to(self, dtype: torch.dtype) -> Small:
        return Small(self.config, {name: value.to(dtype) for name, value in self.params.items()}, self.inputs)

    def split(self, *splits: str, roles: Roles = ROLES) -> Node:
        graph = self.graph
        for each in splits:
            graph = Split.parse(each).apply(graph, roles)
        return graph

    def bind(self, leaf: Node) -> Tensor:
        """The value of a leaf."""
        source = str(leaf.arguments.get("source"))
        if leaf.op == "param":
            return self.params[str(leaf.arguments["name"])]
        if leaf.op == "position":
            return torch.arange(self.inputs["x"].shape[1])[None]
        if leaf.op == "rows":
            return every_row(self.inputs["selected"])
        if leaf.op == "unit":
            return next(iter(self.params.values())).new_ones(1)
        if leaf.op == "directions":
            of: Any = leaf.arguments["of"]
            return torch.from_numpy(of.rows).to(next(iter(self.params.values())))
        if leaf.op == "estimated":
            said: Any = leaf.arguments
            return torch.from_numpy(said["of"](self.inputs[source].numpy(), said["width"]))
        if leaf.op == "held":
            return self.held(leaf)
        placed = {op: f"{op} {source}" for op in ("donor", "drawn_at")}
        return self.inputs[({"tokens": source} | placed).get(leaf.op, leaf.op)]

    def held(self, leaf: Node) -> Tensor:
        """The mean of what a leaf stands for, or as much of an array as is as large, for one sequence."""
        of, source = leaf.arguments["of"], str(leaf.arguments["source"])
        assert isinstance(of, Node)
        if of not in self.own:
            self.own[of] = self.naive(of)
        own = self.own[of]
        if source == "mean":
            return own.mean(0, keepdim=True)
        heads, width = (own.shape[1] if own.ndim == 4 else 1), own.shape[-1]
        array = self.inputs[source][:heads, :, :width]
        return array[None] if own.ndim == 4 else array

    def leaves(self, plan: Plan) -> dict[Node, Tensor]:
        """What a run binds."""
        return {leaf: self.bind(leaf) for leaf in leaves_of(plan)}

    def naive(self, graph: Node) -> Tensor:
        """The value of a graph as it stands: every node computed, nothing simplified, nothing freed."""
        values: dict[Node, Tensor] = {}
        for each in walk([graph]):
            run = OPS[each.op].run
            values[each] = run(*(values[i] for i in each.inputs), **each.arguments) if run else self.bind(each)
        return values[graph]

    def run(
        self,
        outputs: Mapping[str, Node],
        selected: bool = False,
        simplified: bool = True,
        first: int = 0,
        together: int = 1,
    ) -> dict[str, Tensor]:
        plan = compile_plan(outputs, selected, simplified, first, together)
        leaves = self.leaves(plan)
        return plan.run(plan.once(leaves), leaves)

    def logits(self, graph: Node, selected: bool = False) -> Tensor:
        return self.run({"logits": graph}, selected)["logits"]


def split_roles(graph: Node, roles: Roles = ROLES) -> Node:
    """Every layer with roles split into their heads and the rest, one split after the other."""
    for layer in sorted({at for heads in roles.values() for at, _ in heads}):
        names = tuple(role for role, heads in roles.items() if any(at == layer for at, _ in heads))
        graph = Split(Pattern(f"**/a{layer}"), "heads", names).apply(graph, roles)
    return graph


def rules(graph: Node, *texts: str) -> Node:
    """The graph with these rules applied."""
    return resample(graph, [Rule.parse(text) for text in texts])


def paths(graph: Node) -> dict[str, str]:
    """Every complete path of a graph, walked naively, and what feeds it."""
    found: dict[str, str] = {}

    def descend(current: Node, path: str) -> None:
        if current.op == "tokens":
            found[path] = str(current.arguments["source"])
        for each in current.inputs:
            descend(each, f"{path}/{each.label}".lstrip("/") if each.label else path)

    descend(graph, "")
    return found


def random_tensor(generator: torch.Generator, *shape: int, scale: float = 1.0, shift: float = 0.0) -> Tensor:
    return shift + scale * torch.randn(shape, generator=generator, dtype=torch.float64)


def random_params(config: ModelConfig, seed: int) -> dict[str, Tensor]:
    """Weights at which attention patterns are neither flat nor one-hot; every LayerNorm and bias does something."""
    g = torch.Generator().manual_seed(seed)
    shapes = {str(n.arguments["name"]): n.arguments["shape"] for n in walk([lower(config)]) if n.op == "param"}
    scales = {"embed.weight": (1.0, 0.0), "pos.weight": (0.7, 0.0), "unembed.weight": (1.0, 0.0)}  # and shifts
    scales |= {name: (0.3, float(name.endswith("weight"))) for name in shapes if re.search(_NORM, name)}
    scales |= {name: (0.5, 0.0) for name in shapes if name not in scales}
    return {
        name: random_tensor(g, *shapes[name], scale=s, shift=t) for name, (s, t) in scales.items() if name in shapes
    }


def random_inputs(
    config: ModelConfig, seed: int, *, batch: int, donors: int, some: int, features: Iterable[str] = ("f", "g")
) -> dict[str, Tensor]:
    """Tokens of each source, the donors of each position's row, rows to select (some twice), and targets."""
    g = torch.Generator().manual_seed(seed)

    def integers(below: int, *shape: int) -> Tensor:
        return torch.randint(below, shape, generator=g)

    inputs = {source: integers(config.vocab_size, batch, config.n_ctx) for source in ("x", "y")}
    for feature in features:
        inputs[f"like {feature}"] = integers(config.vocab_size, batch, config.n_ctx)
        inputs[f"rows like {feature}"] = integers(config.vocab_size, donors, config.n_ctx)
        inputs[f"donor rows like {feature}"] = integers(donors, batch, config.n_ctx)
    for source in DECLARED:
        inputs[source] = integers(config.vocab_size, donors if " rows " in source else batch, config.n_ctx)
        inputs[f"donor {source}"] = integers(donors, batch, config.n_ctx)
        inputs[f"drawn_at {source}"] = integers(config.n_ctx, batch, config.n_ctx)
    if (pad := getattr(config, "masked", None)) is not None:  # half of all are pads, but never a whole sequence
        for name in [name for name in inputs if not name.startswith(("donor", "drawn_at"))]:
            inputs[name] = inputs[name].masked_fill(integers(2, *inputs[name].shape).bool(), pad)
            inputs[name][:, 0] = (pad + 1) % config.vocab_size
    inputs["selected"] = integers(config.n_ctx, batch, some)
    inputs["target"] = integers(getattr(config, "n_classes", None) or config.vocab_size, batch, config.n_ctx, 1)
    return inputs | held_inputs(config, g)


def held_inputs(config: ModelConfig, g: torch.Generator) -> dict[str, Tensor]:
    """Arrays [head, position, width] for the sources that hold: as wide as any component, slot or pattern."""
    shape = (config.n_heads, config.n_ctx, max(config.n_ctx, config.d_model, config.d_head))
    arrays = {"zero": torch.zeros(shape, dtype=torch.float64), "array a": random_tensor(g, *shape)}
    return arrays | {f"attend {what}": random_tensor(g, *shape).tril() for what in ("lag 2", "array p")}


def small(positions: str = "shortformer", n_layers: int = 2, seed: int = 1, **fields: object) -> Small:
    """A random model: batch 3, heads 5, position 7, d_head 2, d_model 11, vocabulary 13, selected 17, donors 19."""
    return _small(Config, seed, {"positions": positions, "n_layers": n_layers, **fields})


def small_gpt2(n_layers: int = 2, seed: int = 1, **fields: object) -> Small:
    """A random GPT-2 of the same sizes, with MLPs of 23."""
    return _small(gpt2.Config, seed, {"n_layers": n_layers, "d_mlp": 23, **fields})


_TURN = {"width": 4, "base": 50.0}  # of rotary positions, quick enough for few of them
_RMS: dict[str, Any] = {"norm": "rms", "gated": True, "activation": "silu", "rotary": (_TURN,)}
_NEOX: dict[str, Any] = {"norm": "layer", "activation": "gelu", "parallel": True, "d_head": 5, "rotary": (_TURN,)}
_GEMMA: dict[str, Any] = _RMS | {"norms": "both", "activation": "gelu_tanh", "embed_scale": 11**0.5, "tied": True}
_QKV, _ALL = ("q", "k", "v"), ("q", "k", "v", "o", "mlp")
DECODERS: dict[str, dict[str, Any]] = {  # what the decoder of each family is, besides its sizes
    "llama": _RMS | {"rotary": ({**_TURN, "scaling": (8.0, 1.0, 4.0, 16.0)},)},
    "mistral": _RMS | {"windows": (3,)},
    "qwen2": _RMS | {"biases": _QKV, "tied": True},
    "qwen3": _RMS | {"qk_norm": "head"},
    "gemma2": _GEMMA | {"windows": (3, None), "score_cap": 2.0, "logit_cap": 5.0},
    "gemma3": _GEMMA | {"windows": (3, None), "qk_norm": "head", "rotary": (_TURN, {**_TURN, "base": 500.0})},
    "olmo2": _RMS | {"norms": "after", "qk_norm": "all"},
    "neox": _NEOX | {"n_kv_heads": 6, "biases": _ALL},
    "neox sequential": _NEOX | {"n_kv_heads": 6, "biases": _ALL, "parallel": False},
    "gptj": _NEOX | {"n_kv_heads": 6, "one_norm": True, "activation": "gelu_tanh", "biases": ("mlp", "unembed")},
    "phi": _NEOX | {"one_norm": True, "activation": "gelu_tanh", "biases": (*_ALL, "unembed")},
    "gptneo": {
        "norm": "layer", "n_kv_heads": 6, "positions": "learned", "windows": (None, 3), "biases": ("o", "mlp"),
        "tied": True,
    },
    "arena": {
        "norm": "none", "n_kv_heads": 6, "positions": "shortformer", "d_mlp": None, "biases": (*_QKV, "o", "unembed"),
    },
}  # fmt: skip

_ENCODER = {"norm": "layer", "n_kv_heads": 6, "positions": "learned", "causal": False, "biases": (*_ALL, "unembed")}
KINDS = DECODERS | {  # encoders too, with masked pads and without, which predict classes
    "encoder": _ENCODER | {"activation": "relu", "pad_token_id": 1, "n_classes": 5},
    "rotary encoder": _RMS | {"causal": False, "pad_token_id": 1, "score_cap": 2.0, "positions": "shortformer"},
    "encoder without a mask": _ENCODER | {"parallel": True, "one_norm": True},
}


def small_decoder(name: str, n_layers: int = 2, seed: int = 1, **fields: Any) -> Model:
    """A random model of float64 as one of KINDS has it: 6 heads on 3 of keys and values, where it shares those.

    Other sizes are those of `small`, but for a d_head of 4 that can turn (5 where only 4 of it do) and MLPs of 23.
    """
    shape = {"n_heads": 6, "n_kv_heads": 3, "n_ctx": 7, "d_head": 4, "d_model": 11, "vocab_size": 13, "d_mlp": 23}
    config = decoder.Config.model_validate(
        {"bos_token_id": 0, "layer_norm_eps": 1e-5, "n_layers": n_layers, **shape, **KINDS[name], **fields}
    )
    return make_model(name, config, random_params(config, seed))


def _small(family: type[Config | gpt2.Config], seed: int, fields: dict[str, object]) -> Small:
    shape = {"n_heads": 5, "n_ctx": 7, "d_head": 2, "d_model": 11, "vocab_size": 13, "batch": 3, "donors": 19} | fields
    batch, donors = int(str(shape.pop("batch"))), int(str(shape.pop("donors")))
    config = family.model_validate({"bos_token_id": 0, "layer_norm_eps": 1e-5, **shape})
    inputs = random_inputs(config, seed + 1, batch=batch, donors=donors, some=17)
    return Small(config, random_params(config, seed), inputs)
