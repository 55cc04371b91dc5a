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


Path = tuple[Step, ...]


def matches(pattern: str, path: Path, at: int = -1, end: str = "") -> bool:
    """Whether a pattern matches a path, or a beginning of it where `end` is empty, as it reads after `at` splits."""
    steps = ("([^/]+/)*" if s == "**" else re.escape(s).replace(r"\*", "[^/]*") + "/" for s in pattern.split("/"))
    regex = re.sub(r"\\{(.*?)\\}", lambda braces: "(" + braces[1].replace(",", "|") + ")", "".join(steps))
    return bool(re.match(regex + end, "".join(step.names[min(at, len(step.names) - 1)] + "/" for step in path)))


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """As models have it."""
    return (x - x.mean(-1, keepdim=True)) / (x.var(-1, correction=0, keepdim=True) + 1e-5).sqrt() * weight + bias


def mlp(x: Tensor, w_in: Tensor, b_in: Tensor, w_out: Tensor, b_out: Tensor) -> Tensor:
    """GPT-2's, with the tanh approximation of gelu."""
    x = x @ w_in.T + b_in
    return x * (1 + torch.tanh((2 / torch.pi) ** 0.5 * (x + 0.044715 * x**3))) / 2 @ w_out.T + b_out


class Oracle:
    """The scrubber: a model (config, params, inputs), splits (pattern, kind, names), rules (pattern, source), in order.

    Where something can't be split or fed as they say, an assertion fails.
    """

    def __init__(self, model, roles, splits, rules):  # type: ignore[no-untyped-def]
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
        """The path to each of these."""
        found = self.before(path)
        for at, (pattern, kind, names) in enumerate(self.splits):
            hit = [matches(pattern, (*path, step), at, "$") for step in found]
            parts = [self.divide(s, kind, names) if h else [(s.names[-1], s)] for s, h in zip(found, hit, strict=True)]
            found = [replace(step, names=(*step.names, name)) for each in parts for name, step in each]
        return [(*path, step) for step in found]

    def divide(self, step: Step, kind: str, names: list[str]) -> list[tuple[str, Step]]:
        """The parts of a component, each with its name."""
        group, bracket, part = step.names[-1].partition("[")
        assert step.heads if kind == "heads" else step.heads and not part, f"{step} can't be split by {kind}"
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
        ways = [(*path, Step((slot,))) for slot in slots] if path[-1].heads else [path] * (path[-1].layer >= 0)
        return [inner for way in ways for inner in self.below(way)]

    def complete(self, path: Path, slots: str = "qkv") -> list[Path]:
        """Every complete path that begins with this one."""
        return [end for inner in self.read_by(path, slots) for end in self.complete(inner)] or [path]

    def source(self, path: Path) -> str:
        """What feeds a complete path: the last rule that matches it or a beginning of it, else the reference."""
        return next((source for pattern, source in self.rules[::-1] if matches(pattern, path)), "x")

    def normed(self, path: Path, norm: str, donors: bool) -> Tensor:
        """The LayerNormed stream that the end of a path reads; `donors` inside a pattern that runs on donors."""
        wires = [f"layers.{step.layer}.bo" for step in self.before(path) if step.heads]
        wires += [] if self.shortformer else ["pos.weight"]
        x = sum(self.params.get(name, 0) for name in wires)
        x = x + sum(self.written(each, donors) for each in self.below(path))
        return layer_norm(x, self.params[f"{norm}.weight"], self.params[f"{norm}.bias"])

    def written(self, path: Path, donors: bool) -> Tensor:
        """What the component at the end of a path writes into the residual stream."""
        step, (part, side) = path[-1], path[-1].part
        if step.layer < 0:
            assert donors or not self.source(path).startswith("rows"), "rows feed no whole pattern"
            return self.params["embed.weight"][self.inputs[self.source(path)]]
        if not step.heads:
            weights = (self.params[f"layers.{step.layer}.{name}"] for name in ("w_in", "b_in", "w_out", "b_out"))
            return mlp(self.normed(path, f"layers.{step.layer}.ln2", donors), *weights)
        v = self.slot(path, "v", donors)
        whole = self.pattern(path, donors) if step.part != ("identity", "in") else torch.zeros(())
        lag = torch.arange(v.shape[2])[:, None] - torch.arange(v.shape[2])
        inside = ((LAGS[part][0] <= lag) & (lag < LAGS[part][1])).to(v).expand(*v.shape[:2], -1, -1)
        inside = inside if part == "identity" else inside * whole
        read = inside if side == "in" else whole - inside
        return torch.einsum("bhqk,bhkd,hmd->bqm", read, v, self.params[f"layers.{step.layer}.wo"][list(step.heads)])

    def slot(self, path: Path, slot: str, donors: bool) -> Tensor:
        """Queries, keys or values of the heads at the end of a path."""
        name, heads = f"layers.{path[-1].layer}", list(path[-1].heads)
        x = self.normed((*path, Step((slot,))), f"{name}.ln{'1' * self.gpt2}", donors)
        x = x + self.params["pos.weight"] if self.shortformer and slot != "v" else x
        bias = self.params.get(f"{name}.b{slot}", torch.zeros(self.config.n_heads, 1))
        return torch.einsum("bpm,hdm->bhpd", x, self.params[f"{name}.w{slot}"][heads]) + bias[heads, None]

    def pattern(self, path: Path, donors: bool) -> Tensor:
        """The attention patterns of the heads at the end of a path."""
        fed = {self.source(end) for end in self.complete(path, "qk")}
        if not donors and len(fed) == 1 and min(fed).startswith("rows"):
            on_donors, donor = self.pattern(path, True), self.inputs[f"donor {min(fed)}"]
            return torch.stack([torch.stack([on_donors[d, :, i] for i, d in enumerate(row)], 1) for row in donor])
        q, k = self.slot(path, "q", donors), self.slot(path, "k", donors)
        scores = torch.einsum("bhqd,bhkd->bhqk", q, k) / q.shape[-1] ** 0.5
        return scores.masked_fill(torch.ones(scores.shape[-2:]).triu(1).bool(), -torch.inf).softmax(-1)

    def logits(self) -> Tensor:
        """The logits [batch, position, vocab]; without a table of its own, the unembedding is the embedding."""
        table = self.params.get("unembed.weight", self.params["embed.weight"])
        return self.normed((), "final_ln", False) @ table.T + self.params.get("unembed.bias", 0)
