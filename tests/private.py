"""Scores of edges of transformers' models in plain torch, with hooks: no code of `scrub`.

Every reader (a slot of a head, an MLP, the output) reads a stream of its own: what the model has there, and for each
module that writes into it a tensor of zeros of its own, added to what that module writes, in front of the norm that
stands behind it if one does. The gradient at such a tensor is of that reader and that writer alone. Models are to be
made and run inside `twins.exact`, with a copy of the keys and values for every query head (`with_own_keys`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from twins import FINAL, layers_of

Measure = Callable[[Tensor], Tensor]  # of logits, for each example
Score = dict[str, Tensor]  # by edge, for each example
EMB, OUT = "emb", "out"


@dataclass(frozen=True)
class Layer:
    """A layer's modules: what projects a slot, what norms that, what all heads write through, and norms of the stream.

    `before` is what heads read through, `after` what they write through, `mlp_before` and `mlp_after` the MLP's.
    """

    slots: Mapping[str, nn.Module]
    slot_norms: Mapping[str, nn.Module]
    output: nn.Module
    mlp: nn.Module
    before: nn.Module | None
    after: nn.Module | None
    mlp_before: nn.Module | None
    mlp_after: nn.Module | None
    parallel: bool

    @classmethod
    def of(cls, block: Any) -> Layer:
        """Find them by what transformers calls them."""
        if hasattr(block, "ln_1"):
            slots = dict.fromkeys("qkv", block.attn.c_attn)
            return cls(slots, {}, block.attn.c_proj, block.mlp, block.ln_1, None, block.ln_2, None, parallel=False)
        attention = block.self_attn
        slots = {slot: getattr(attention, f"{slot}_proj") for slot in "qkv"}
        norms = {slot: getattr(attention, f"{slot}_norm") for slot in "qk" if hasattr(attention, f"{slot}_norm")}
        before = getattr(block, "input_layernorm", None)
        ends = slots, norms, attention.o_proj if hasattr(attention, "o_proj") else attention.dense, block.mlp
        if not hasattr(block, "post_attention_layernorm"):
            return cls(*ends, before, None, before, None, parallel=True)
        if not hasattr(block, "post_feedforward_layernorm"):
            return cls(*ends, before, None, block.post_attention_layernorm, None, parallel=False)
        mlp = getattr(block, "pre_feedforward_layernorm", None), block.post_feedforward_layernorm
        return cls(*ends, before, block.post_attention_layernorm, *mlp, parallel=False)


@dataclass
class Run:
    """What one run has seen: what modules write, in front of norms, what heads write, and what was made of streams."""

    logits: Tensor = field(default_factory=lambda: torch.empty(0))
    written: dict[str, Tensor] = field(default_factory=dict)  # "emb", "a0", "m0": in front of a norm behind it
    senders: dict[str, Tensor] = field(default_factory=dict)  # "emb", "a0.1", "m0": what each writes there
    streams: dict[str, Tensor] = field(default_factory=dict)  # "a0", "m0", "out": what is read, in front of norms
    own: dict[tuple[str, str], Tensor] = field(default_factory=dict)  # zeros, by reader and writer
    taps: dict[str, Tensor] = field(default_factory=dict)  # zeros, added to what each reader makes of its stream
    more: Mapping[tuple[str, str], Tensor] = field(default_factory=dict)  # instead of zeros in `own`


class Private:
    """A model of transformers, in which every reader has its own streams."""

    def __init__(self, theirs: Any, heads: int) -> None:
        self.theirs, self.heads = theirs, heads
        self.layers = [Layer.of(block) for block in layers_of(theirs)]
        body = getattr(theirs, theirs.base_model_prefix)
        self.last = next(getattr(body, name) for name in FINAL if hasattr(body, name))

    def behind(self, writer: str) -> nn.Module | None:
        """The norm behind a module that writes."""
        if writer == EMB:
            return None
        layer = self.layers[int(writer[1:])]
        return layer.after if writer[0] == "a" else layer.mlp_after

    def moved(self, run: Run, writer: str, by: Tensor) -> Tensor:
        """How the stream changes as a module writes something more."""
        norm, written = self.behind(writer), run.written[writer]
        return by if norm is None else norm.forward(written + by) - norm.forward(written)

    def made(self, reader: str, stream: Tensor) -> Tensor:
        """What a reader makes of a stream: q, k or v of its head, or the normed input of an MLP or of the output."""
        if reader == OUT:
            return self.last.forward(stream)
        layer = self.layers[int(reader[1:].partition(".")[0])]
        if reader[0] == "m":
            return stream if layer.mlp_before is None else layer.mlp_before.forward(stream)
        component, _, slot = reader.partition("/")
        normed = stream if layer.before is None else layer.before.forward(stream)
        made = layer.slots[slot].forward(normed)
        made = layer.slot_norms[slot].forward(made) if slot in layer.slot_norms else made
        return made[..., self.columns(layer, slot, int(component.partition(".")[2]))]

    def columns(self, layer: Layer, slot: str, head: int) -> slice:
        """Where a head stands in what the projection of a slot gives."""
        fused = layer.slots["q"] is layer.slots["k"]
        width = layer.slots["q"].weight.shape[1] // 3 if fused else layer.slots[slot].weight.shape[0]
        d_head, first = width // self.heads, "qkv".index(slot) * width if fused else 0
        return slice(first + head * d_head, first + (head + 1) * d_head)

    def read(self, run: Run, reader: str) -> Tensor:
        """What a reader makes of its own stream, and what its tap adds."""
        stream = run.streams[OUT if reader == OUT else reader.partition(".")[0]]
        for writer in self.writers(run, reader):
            own = run.more.get((reader, writer), torch.zeros_like(stream)).clone().requires_grad_()
            run.own[reader, writer] = own
            stream = stream + self.moved(run, writer, own)
        made = self.made(reader, stream)
        tap = run.taps[reader] = torch.zeros_like(made).requires_grad_()
        return made + tap

    def writers(self, run: Run, reader: str) -> list[str]:
        """What has written into the stream that a reader reads."""
        parallel = reader[0] == "m" and self.layers[int(reader[1:])].parallel
        return [writer for writer in run.written if not (parallel and writer == f"a{reader[1:]}")]

    @contextmanager
    def hooked(self, run: Run, start: Tensor | None) -> Any:
        """Give every reader its own streams. `start` stands for what the first layer reads."""
        handles: list[Any] = []

        def before(module: nn.Module, change: Callable[[Tensor], Tensor]) -> None:
            def hook(_: nn.Module, args: Any, named: Any) -> Any:
                if args:
                    return (change(args[0]), *args[1:]), named
                return args, {**named, "hidden_states": change(named["hidden_states"])}

            handles.append(module.register_forward_pre_hook(hook, with_kwargs=True))

        def after(module: nn.Module, change: Callable[[Tensor], Tensor]) -> None:
            handles.append(module.register_forward_hook(lambda _, __, out: change(out)))

        for at, layer in enumerate(self.layers):
            for module, change in self._of_layer(run, at, layer, start).items():
                (before if change[0] == "before" else after)(module[0], change[1])
        before(self.last, lambda stream: run.streams.setdefault(OUT, stream))
        after(self.last, lambda _: self.read(run, OUT))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _of_layer(self, run: Run, at: int, layer: Layer, start: Tensor | None) -> dict[Any, Any]:
        block = layers_of(self.theirs)[at]

        def enters(stream: Tensor) -> Tensor:
            if at == 0:
                stream = run.written[EMB] = stream if start is None else start
                run.senders[EMB] = stream
            run.streams[f"a{at}"] = stream
            if layer.parallel:
                run.streams[f"m{at}"] = stream
            return stream

        def heads(slots: str) -> Callable[[Tensor], Tensor]:
            def change(_: Tensor) -> Tensor:
                return torch.cat([self.read(run, f"a{at}.{h}/{slot}") for slot in slots for h in range(self.heads)], -1)

            return change

        def writes_heads(z: Tensor) -> Tensor:
            weight = layer.output.weight if hasattr(layer.output, "nf") else layer.output.weight.T
            width = len(weight) // self.heads
            for h in range(self.heads):
                rows = slice(h * width, (h + 1) * width)
                run.senders[f"a{at}.{h}"] = z[..., rows] @ weight[rows]
            return z

        def mlp_reads(read: Tensor) -> Tensor:
            run.streams.setdefault(f"m{at}", read)  # if no norm in front of it has been asked
            return self.read(run, f"m{at}")

        def wrote(name: str) -> Callable[[Tensor], Tensor]:
            def change(written: Tensor) -> Tensor:
                run.written[name] = written
                if name[0] == "m":
                    run.senders[name] = written
                return written

            return change

        hooks: dict[Any, Any] = {(block, 0): ("before", enters)}
        fused = layer.slots["q"] is layer.slots["k"]
        for slots in ["qkv"] if fused else "qkv":
            hooks[layer.slot_norms.get(slots[0], layer.slots[slots[0]]), 0] = ("after", heads(slots))
        hooks[layer.output, 0] = ("before", writes_heads)
        hooks[layer.output, 1] = ("after", wrote(f"a{at}"))
        if layer.mlp_before is not None and not layer.parallel:
            hooks[layer.mlp_before, 0] = ("before", lambda stream: run.streams.setdefault(f"m{at}", stream))
        hooks[layer.mlp, 0] = ("before", mlp_reads)
        hooks[layer.mlp, 1] = ("after", wrote(f"m{at}"))
        return hooks

    def run(self, tokens: Tensor, start: Tensor | None = None, more: Mapping[Any, Tensor] | None = None) -> Run:
        """Run the model on tokens, or from what its first layer reads; some writers write `more` for some readers."""
        run = Run(more=more or {})
        with self.hooked(run, start):
            run.logits = self.theirs(tokens, use_cache=False).logits
        return run

    def change(self, x: Tensor, y: Tensor) -> Score:
        """How what every sender writes changes from x to y."""
        here, there = (self.run(tokens).senders for tokens in (x, y))
        return {name: (there[name] - each).detach() for name, each in here.items()}

    def cost(self, x: Tensor, y: Tensor, measure: Measure, edge: str) -> Tensor:
        """How a metric of each example changes as one reader reads of one sender what it writes on y."""
        reader, _, sender = edge.rpartition("/")
        more = {(reader, sender.partition(".")[0]): self.change(x, y)[sender]}
        return (measure(self.run(x, more=more).logits) - measure(self.run(x).logits)).detach()

    def scores(
        self, x: Tensor, y: Tensor, measure: Measure, points: int | None = None, recomputed: bool = False
    ) -> Score:
        """Score every edge: how a metric of each example moves as what is written there becomes what it is on y."""
        change = self.change(x, y)
        last = self.run(x).written[EMB].detach()
        first = last + change[EMB]
        starts = [last] if points is None else [first + at / points * (last - first) for at in range(points)]
        found: Score = {}
        for start in starts:
            for edge, score in self._at(self.run(x, start), change, measure, recomputed).items():
                found[edge] = found.get(edge, torch.zeros_like(score)) + score / len(starts)
        return found

    def _at(self, run: Run, change: Mapping[str, Tensor], measure: Measure, recomputed: bool) -> Score:
        leaves = run.taps if recomputed else run.own
        got = torch.autograd.grad(measure(run.logits).sum(), list(leaves.values()), allow_unused=True)
        gradients = dict(zip(leaves, got, strict=True))
        found: Score = {}
        for reader, writer in run.own:
            gradient = gradients[reader if recomputed else (reader, writer)]  # type: ignore[index]
            for sender, by in change.items():
                if sender.partition(".")[0] != writer:
                    continue
                along = self._remade(run, reader, writer, by) if recomputed else by
                nothing = torch.zeros_like(along) if gradient is None else gradient
                found[f"{reader}/{sender}"] = (along * nothing).flatten(1).sum(1).detach()
        return found

    @torch.no_grad()
    def _remade(self, run: Run, reader: str, writer: str, by: Tensor) -> Tensor:
        """How what a reader makes changes with what it reads of one sender."""
        stream = run.streams[OUT if reader == OUT else reader.partition(".")[0]]
        return self.made(reader, stream + self.moved(run, writer, by)) - self.made(reader, stream)


def with_own_keys(theirs: Any, twin: Any, heads: int, groups: int) -> Any:
    """Give a model with as many heads of keys and values as of queries what another has, where groups share those."""
    state = theirs.state_dict()
    for name, value in state.items():
        if groups < heads and any(of in name for of in (".k_proj.", ".v_proj.", ".k_norm.")):
            by_head = value.unflatten(0, (groups, -1))
            state[name] = by_head.repeat_interleave(heads // groups, 0).flatten(0, 1)
    twin.load_state_dict(state)
    return twin
