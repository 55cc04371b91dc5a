"""The oracle: scrubbing by plain recursion over paths, with no graph, no sharing and no memo.

It knows attention-only transformers and GPT-2 as tensor code, and path patterns as regular expressions over whole
paths. Written from the design's words, without scrub, to be compared with it.
"""

import re
from dataclasses import dataclass, replace
from itertools import takewhile

import torch
from torch import Tensor

LAGS = {"all": (0, 99), "current": (0, 1), "previous": (1, 2), "last 3": (0, 3), "identity": (0, 1)}


@dataclass(frozen=True)
class Step:
    """A step of a path: its name before the first split, after it, after the second, and so on; slots keep theirs."""

    names: tuple[str, ...]
    layer: int = -1  # of attention and MLPs; emb and slots have none
    heads: tuple[int, ...] = ()  # of attention
    part: tuple[str, str] = ("all", "in")  # a mask or identity, and the side of it
    rows: tuple[tuple[str, bool], ...] = ()  # spans of positions, and whether it is what lies inside


Path = tuple[Step, ...]


def matches(pattern: str, path: Path, at: int = -1, end: str = "") -> bool:
    """Whether a pattern matches a path, or a beginning of it where `end` is empty, as it reads after `at` splits."""
    steps = ("([^/]+/)*" if s == "**" else re.escape(s).replace(r"\*", "[^/]*") + "/" for s in pattern.split("/"))
    regex = re.sub(r"\\{(.*?)\\}", lambda braces: "(" + braces[1].replace(",", "|") + ")", "".join(steps))
    return bool(re.match(regex + end, "".join(step.names[min(at, len(step.names) - 1)] + "/" for step in path)))


def inside(spans: str, positions: int) -> Tensor:
    """Which positions, as a column, lie in spans such as `1..3, 5`."""
    ends = [[int(end) for end in span.split("..")] for span in spans.split(",")]
    return torch.tensor([[any(span[0] <= at <= span[-1] for span in ends)] for at in range(positions)])


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """As models have it."""
    return (x - x.mean(-1, keepdim=True)) / (x.var(-1, correction=0, keepdim=True) + 1e-5).sqrt() * weight + bias


def mlp(x: Tensor, w_in: Tensor, b_in: Tensor, w_out: Tensor, b_out: Tensor) -> Tensor:
    """GPT-2's, with the tanh approximation of gelu."""
    x = x @ w_in.T + b_in
    return x * (1 + torch.tanh((2 / torch.pi) ** 0.5 * (x + 0.044715 * x**3))) / 2 @ w_out.T + b_out


class Oracle:
    """The scrubber: a model (config, params, inputs), splits (pattern, kind, names), rules (pattern, source), in order.

    Inputs are the tokens of sources of sequences, and arrays [head, position, width], wider and of more heads than
    what is held at them needs. Where something can't be split or fed as they say, an assertion fails.
    """

    def __init__(self, model, roles, splits, rules):  # type: ignore[no-untyped-def]
        self.model = model
        self.config, self.params, self.inputs = model.config, model.params, model.inputs
        self.roles, self.splits, self.rules = roles, splits, rules
        positions = getattr(self.config, "positions", "")
        self.gpt2, self.shortformer = not positions, positions == "shortformer"
        layer = [("a", tuple(range(self.config.n_heads))), ("m", ())][: 1 + self.gpt2]
        layers = [Step((f"{kind}{at}",), at, heads) for at in range(self.config.n_layers) for kind, heads in layer]
        self.components = [Step(("emb",)), *layers]

    def before(self, path: Path) -> list[Step]:
        """The components, unsplit, that write into the residual stream which the end of a path reads."""
        reader = ([step.names[0] for step in path if step.names[0] not in "qkv"] or ["out"])[-1]
        return list(takewhile(lambda step: step.names[0] != reader, self.components))

    def below(self, path: Path) -> list[Path]:
        """The path to each of these, split."""
        return self.split(path, self.before(path))

    def split(self, path: Path, found: list[Step]) -> list[Path]:
        """The paths to the parts of some steps that follow a path."""
        for at, (pattern, kind, names) in enumerate(self.splits):
            hit = [matches(pattern, (*path, step), at, "$") for step in found]
            parts = [self.divide(s, kind, names) if h else [(s.names[-1], s)] for s, h in zip(found, hit, strict=True)]
            found = [replace(step, names=(*step.names, name)) for each in parts for name, step in each]
        return [(*path, step) for step in found]

    def divide(self, step: Step, kind: str, names: list[str]) -> list[tuple[str, Step]]:
        """The parts of a component, each with its name."""
        whole = step.names[-1]
        if kind == "positions":
            sides = ((names[0], True), ("rest", False))
            return [(f"{whole}[{name}]", replace(step, rows=(*step.rows, (names[0], side)))) for name, side in sides]
        group, bracket, part = whole.partition("[")
        can = step.heads and not step.rows and (kind == "heads" or not part)
        assert can, f"{step} can't be split by {kind}"
        if kind != "heads":
            a, b = (*names, "rest") if names else ("identity", "error")
            return [(f"{group}[{name}]", replace(step, part=(a, side))) for name, side in ((a, "in"), (b, "out"))]
        groups, left = [], set(step.heads)
        for name in names:
            heads = {int(name)} if name.isdigit() else {h for at, h in self.roles[name] if at == step.layer}
            assert set() < heads <= left, f"{step} has no {name}"
            groups, left = [*groups, (f"a{step.layer}.{name}", heads)], left - heads
        groups += [(group.removesuffix(".rest") + ".rest", left)] if left else []
        return [(name + bracket + part, replace(step, heads=tuple(heads))) for name, heads in groups]

    def read_by(self, path: Path, slots: str = "qkv") -> list[Path]:
        """The paths to what the component at the end of a path reads, by way of some of its slots if it has any."""
        slots = "v" if path[-1].part == ("identity", "in") else slots
        ways = [way for slot in slots for way in self.slots(path, slot)] if path[-1].heads else [path]
        return [inner for way in ways if not self.holds(way) for inner in self.below(way)]

    def slots(self, path: Path, slot: str) -> list[Path]:
        """The paths to one of the slots of attention: more than one where it is split."""
        return self.split(path, [Step((slot,))])

    def complete(self, path: Path, slots: str = "qkv") -> list[Path]:
        """Every complete path that begins with this one; none goes through what is held."""
        if path[-1].layer < 0 or self.holds(path):
            return [] if self.holds(path) else [path]
        return [end for inner in self.read_by(path, slots) for end in self.complete(inner)]

    def source(self, path: Path) -> str:
        """What feeds a path: the last rule that matches it or a beginning of it, else the reference."""
        return next((source for pattern, source in self.rules[::-1] if matches(pattern, path)), "x")

    def holds(self, path: Path) -> bool:
        """Whether what is at the end of a path is held at a value, whatever it reads."""
        return not re.fullmatch("x|y|.*like .*", self.source(path))

    def held(self, path: Path, heads: tuple[int, ...], width: int) -> Tensor:
        """That value, for one sequence."""
        source = self.source(path)
        if source == "mean":
            plain = Oracle(self.model, self.roles, self.splits, [])
            own = plain.written(path, False) if path[-1].names[0] not in "qkv" else plain.slot(path, False)
            return own.mean(0, keepdim=True)
        assert not source.startswith("attend"), "that stands for a whole pattern"
        array = self.inputs[source][..., :width]
        return array[None, : len(heads)] if heads else array[:1]

    def normed(self, path: Path, norm: str, donors: bool) -> Tensor:
        """The LayerNormed stream that the end of a path reads; `donors` inside a pattern that runs on donors."""
        wires = [f"layers.{step.layer}.bo" for step in self.before(path) if step.heads]
        wires += [] if self.shortformer else ["pos.weight"]
        x = sum(self.params.get(name, 0) for name in wires)
        x = x + sum(self.written(each, donors) for each in self.below(path))
        return layer_norm(x, self.params[f"{norm}.weight"], self.params[f"{norm}.bias"])

    def written(self, path: Path, donors: bool) -> Tensor:
        """What the component at the end of a path writes into the residual stream."""
        if self.holds(path):
            return self.held(path, (), self.config.d_model)
        return self.kept(path) * self.computed(path, donors)

    def kept(self, path: Path) -> Tensor:
        """The positions at which the end of a path is what it is, and not 0."""
        sides = [inside(spans, self.config.n_ctx) == side for spans, side in path[-1].rows]
        return torch.stack([torch.ones(self.config.n_ctx, 1).bool(), *sides]).all(0)

    def computed(self, path: Path, donors: bool) -> Tensor:
        """What that component writes at all positions."""
        step, (part, side) = path[-1], path[-1].part
        if step.layer < 0:
            assert donors or not self.source(path).startswith("rows"), "rows feed no whole pattern"
            return self.params["embed.weight"][self.inputs[self.source(path)]]
        if not step.heads:
            weights = (self.params[f"layers.{step.layer}.{name}"] for name in ("w_in", "b_in", "w_out", "b_out"))
            return mlp(self.normed(path, f"layers.{step.layer}.ln2", donors), *weights)
        v = sum(self.slot(way, donors) for way in self.slots(path, "v"))
        whole = self.pattern(path, donors) if step.part != ("identity", "in") else torch.zeros(1, 1, 1, 1)
        lag = torch.arange(v.shape[2])[:, None] - torch.arange(v.shape[2])
        near = ((LAGS[part][0] <= lag) & (lag < LAGS[part][1])).to(v).expand(1, v.shape[1], -1, -1)
        near = near if part == "identity" else near * whole
        read = near if side == "in" else whole - near
        return torch.einsum("bhqk,bhkd,hmd->bqm", read, v, self.params[f"layers.{step.layer}.wo"][list(step.heads)])

    def slot(self, path: Path, donors: bool) -> Tensor:
        """Queries, keys or values of some heads: the slot at the end of a path, or a part of it."""
        component, slot = path[-2], path[-1].names[0]
        name, heads = f"layers.{component.layer}", list(component.heads)
        if self.holds(path):
            return self.held(path, component.heads, self.config.d_head)
        x = self.normed(path, f"{name}.ln{'1' * self.gpt2}", donors)
        x = x + self.params["pos.weight"] if self.shortformer and slot != "v" else x
        bias = self.params.get(f"{name}.b{slot}", torch.zeros(self.config.n_heads, 1))
        z = torch.einsum("bpm,hdm->bhpd", x, self.params[f"{name}.w{slot}"][heads]) + bias[heads, None]
        return self.kept(path) * z

    def pattern(self, path: Path, donors: bool) -> Tensor:
        """The attention patterns of the heads at the end of a path."""
        ways = [way for slot in "qk" for way in self.slots(path, slot)]
        forced = {self.source(way) for way in ways}
        if len(ways) == 2 and len(forced) == 1 and min(forced).startswith("attend"):
            return self.inputs[min(forced)][None, : len(path[-1].heads), :, : self.config.n_ctx]
        fed = {self.source(end) for end in self.complete(path, "qk")}
        if not donors and len(fed) == 1 and min(fed).startswith("rows"):
            on_donors, donor = self.pattern(path, True), self.inputs[f"donor {min(fed)}"]
            return torch.stack([torch.stack([on_donors[d, :, i] for i, d in enumerate(row)], 1) for row in donor])
        q, k = (sum(self.slot(way, donors) for way in self.slots(path, slot)) for slot in "qk")
        scores = torch.einsum("bhqd,bhkd->bhqk", q, k) / q.shape[-1] ** 0.5
        return scores.masked_fill(torch.ones(scores.shape[-2:]).triu(1).bool(), -torch.inf).softmax(-1)

    def logits(self) -> Tensor:
        """The logits [batch, position, vocab]; without a table of its own, the unembedding is the embedding."""
        table = self.params.get("unembed.weight", self.params["embed.weight"])
        return self.normed((), "final_ln", False) @ table.T + self.params.get("unembed.bias", 0)
