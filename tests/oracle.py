"""The oracle: scrubbing by plain recursion over paths, with no graph, no sharing and no memo.

It knows decoders of all settings as tensor code, and path patterns as regular expressions over whole paths. Written
from the design's words, without scrub, to be compared with it.
"""

import re
from dataclasses import dataclass, replace
from itertools import takewhile
from types import SimpleNamespace

import torch
from torch import Tensor

LAGS = {"all": (-99, 99), "current": (0, 1), "previous": (1, 2), "last 3": (0, 3), "lag 2": (2, 3), "identity": (0, 1)}


@dataclass(frozen=True)
class Step:
    """A step of a path: its name before the first split, after it, after the second, and so on; slots keep theirs."""

    names: tuple[str, ...]
    layer: int = -1  # of attention and MLPs; emb and slots have none
    heads: tuple[int, ...] = ()  # of attention
    part: tuple[str, str] = ("all", "in")  # a mask, several with | between them, or identity, and the side of it
    # taken of it, one after the other: positions, directions or an estimate, and whether it is that or the rest
    taken: tuple[tuple[str, str, bool], ...] = ()


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


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """Divided by the root of the mean square."""
    return x / (x.square().mean(-1, keepdim=True) + eps).sqrt() * weight


def turned(x: Tensor, width: int, base: float, scaling: object = None) -> Tensor:
    """Queries or keys at rotary positions: each pair of dimensions is a complex number, which is turned."""
    speed = torch.tensor([base ** (-2 * at / width) for at in range(width // 2)], dtype=x.dtype)
    if isinstance(scaling, tuple):
        factor, low, high, original = scaling
        turns = original * speed / (2 * torch.pi)
        between = (turns - low) / (high - low)
        slow = torch.where(turns < low, speed / factor, (1 - between) * speed / factor + between * speed)
        speed = torch.where(turns > high, speed, slow)
    elif scaling:
        speed = speed / scaling
    pairs = torch.complex(x[..., : width // 2], x[..., width // 2 : width])
    pairs = pairs * torch.exp(1j * torch.arange(x.shape[-2])[:, None] * speed)
    return torch.cat([pairs.real, pairs.imag, x[..., width:]], -1)


ACTIVATIONS = {
    "gelu_tanh": lambda x: x * (1 + torch.tanh((2 / torch.pi) ** 0.5 * (x + 0.044715 * x**3))) / 2,
    "gelu": lambda x: x * (1 + torch.erf(x / 2**0.5)) / 2,
    "relu": lambda x: x.clamp(min=0),
    "silu": lambda x: x / (1 + torch.exp(-x)),
}
GPT2 = {"d_mlp": 1, "positions": "learned", "activation": "gelu_tanh"}  # and what says nothing of a setting has
PLAIN = {"norm": "layer", "norms": "before", "rotary": (None,), "windows": (None,), "d_mlp": None, "gated": False}
PLAIN |= {"causal": True, "pad_token_id": None}
SLOTS = ("q", "k", "v", "mask")
PLAIN |= {"parallel": False, "one_norm": False, "qk_norm": None, "score_cap": None, "logit_cap": None, "embed_scale": 1}


class Oracle:
    """The scrubber: a model (config, params, inputs), splits (pattern, kind, names), rules (pattern, source), in order.

    Inputs are the tokens of sources of sequences, and arrays [head, position, width], wider and of more heads than
    what is held at them needs. `given` are directions, and functions of tokens and a width, by name. Where something
    can't be split or fed as they say, an assertion fails.
    """

    def __init__(self, model, roles, splits, rules, given=None):  # type: ignore[no-untyped-def]
        self.model, self.given = model, given or {}
        self.config, self.params, self.inputs = model.config, model.params, model.inputs
        self.roles, self.splits, self.rules = roles, splits, rules
        self.is_ = SimpleNamespace(**PLAIN | ({} if hasattr(self.config, "positions") else GPT2) | vars(self.config))
        layer = [("a", tuple(range(self.config.n_heads))), ("m", ())][: 2 if self.is_.d_mlp else 1]
        layers = [Step((f"{kind}{at}",), at, heads) for at in range(self.config.n_layers) for kind, heads in layer]
        self.components = [Step(("emb",)), *layers]
        self.masked = ("mask",) if self.is_.pad_token_id is not None and not self.is_.causal else ()  # one more slot

    def before(self, path: Path) -> list[Step]:
        """The components, unsplit, that write into the residual stream which the end of a path reads."""
        reader = ([step.names[0] for step in path if step.names[0] not in SLOTS] or ["out"])[-1]
        found = list(takewhile(lambda step: step.names[0] != reader, self.components))
        return found[:-1] if self.is_.parallel and reader[0] == "m" else found  # without the heads of its layer

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
        if kind in {"positions", "direction", "estimate"}:
            numbers = range(self.config.n_ctx) if names == ["each"] else []
            sides = [(str(at), str(at), True) for at in numbers] or [
                (names[0], names[0], True),
                ("rest", names[0], False),
            ]
            taken = [(f"{whole}[{name}]", replace(step, taken=(*step.taken, (kind, of, b)))) for name, of, b in sides]
            if kind == "estimate":  # which reads tokens, and nothing else
                assert step.names[0] not in "qkv", "what has heads has no estimate"
                taken[0] = (taken[0][0], replace(taken[0][1], layer=-1, heads=()))
            return taken
        group, bracket, part = whole.partition("[")
        can = step.heads and not step.taken and (kind == "heads" or not part)
        assert can, f"{step} can't be split by {kind}"
        if kind != "heads":
            sides = [(name, name, "in") for name in names or ["identity"]]
            sides += [("rest" if names else "error", "|".join(names) or "identity", "out")]
            return [(f"{group}[{name}]", replace(step, part=(of, side))) for name, of, side in sides]
        groups, left = [], set(step.heads)
        for name in names:
            heads = {int(name)} if name.isdigit() else {h for at, h in self.roles[name] if at == step.layer}
            assert set() < heads <= left, f"{step} has no {name}"
            groups, left = [*groups, (f"a{step.layer}.{name}", heads)], left - heads
        groups += [(group.removesuffix(".rest") + ".rest", left)] if left else []
        return [(name + bracket + part, replace(step, heads=tuple(heads))) for name, heads in groups]

    def read_by(self, path: Path, slots: str = "qkv") -> list[Path]:
        """The paths to what the component at the end of a path reads, by way of some of its slots if it has any.

        A mask goes with the queries and keys. It reads no component, but the tokens themselves.
        """
        slots = "v" if path[-1].part == ("identity", "in") else slots
        ways = [way for slot in slots for way in self.slots(path, slot)] if path[-1].heads else [path]
        masks = self.masks(path) if path[-1].heads and "q" in slots else []
        return [inner for way in ways if not self.holds(way) for inner in self.below(way)] + masks

    def masks(self, path: Path) -> list[Path]:
        """The paths to the mask of attention, if it has one: more than one where it is split."""
        return [way for slot in self.masked for way in self.slots(path, slot)]

    def slots(self, path: Path, slot: str) -> list[Path]:
        """The paths to one of the slots of attention: more than one where it is split."""
        return self.split(path, [Step((slot,))])

    def complete(self, path: Path) -> list[Path]:
        """Every complete path that begins with this one; none goes through what is held."""
        if path[-1].layer < 0 or self.holds(path):
            return [] if self.holds(path) else [path]
        own = [path] if any(kind == "estimate" for kind, _, _ in path[-1].taken) else []
        return own + [end for inner in self.read_by(path) for end in self.complete(inner)]

    def source(self, path: Path) -> str:
        """What feeds a path: the last rule that matches it or a beginning of it, else the reference."""
        return next((source for pattern, source in self.rules[::-1] if matches(pattern, path)), "x")

    def holds(self, path: Path) -> bool:
        """Whether what is at the end of a path is held at a value, whatever it reads."""
        return not re.fullmatch(r"x|y|[A-Z]|.*like .*|(\w+ )?any.*", self.source(path))

    def held(self, path: Path, heads: tuple[int, ...], width: int) -> Tensor:
        """That value, for one sequence."""
        source = self.source(path)
        if source == "mean":
            plain = Oracle(self.model, self.roles, self.splits, [])
            plain.given = self.given
            own = plain.written(path, False) if path[-1].names[0] not in SLOTS else plain.slot(path, False)
            return own.mean(0, keepdim=True)
        assert not source.startswith("attend"), "that stands for a whole pattern"
        array = self.inputs[source][..., :width]
        return array[None, : len(heads)] if heads else array[:1]

    def normed(self, path: Path, norm: str, donors: bool) -> Tensor:
        """The stream that the end of a path reads, normed; `donors` inside a pattern that runs on donors."""
        below, x = self.below(path), torch.zeros(1, 1, 1, dtype=torch.float64)
        for step in self.before(path):
            parts = [each for each in below if each[-1].names[0] == step.names[0]]
            x = x + self.added(step, sum(self.written(each, donors) for each in parts))
        x = x + self.params["pos.weight"] if self.is_.positions in {"learned", "standard"} else x
        return self.norm(x, norm) if not path or self.is_.norms != "after" else x

    def added(self, step: Step, written: Tensor) -> Tensor:
        """What a layer's heads or MLP write together, as it is added to the stream."""
        written = written + self.params.get(f"layers.{step.layer}.bo", 0) if step.heads else written
        if step.layer < 0 or self.is_.norms == "before":
            return written
        return self.norm(written, f"layers.{step.layer}.{self.first if step.heads else 'ln2'}_post")

    def norm(self, x: Tensor, name: str) -> Tensor:
        """As the model has it."""
        eps, kind = self.config.layer_norm_eps, self.is_.norm
        if kind == "layer":
            centred, weight = x - x.mean(-1, keepdim=True), self.params[f"{name}.weight"]
            return rms_norm(centred, weight, eps) + self.params[f"{name}.bias"]
        return rms_norm(x, self.params[f"{name}.weight"], eps) if kind == "rms" else x

    @property
    def first(self) -> str:
        """What the norm of heads is called."""
        return "ln1" if self.is_.d_mlp else "ln"

    def drawn(self, path: Path, donors: bool) -> str:
        """The declared draw of rows that alone feeds the value at which a rule's pattern ends, if one does."""
        rules = [source for pattern, source in self.rules if matches(pattern.removesuffix("/**"), path, end="$")]
        if donors or not any(" rows " in source for source in rules):
            return ""
        slot = path[-1].names[0] in "qkv"
        fed = {self.source(end) for way in (self.below(path) if slot else [path]) for end in self.complete(way)}
        return min(fed) if len(fed) == 1 and min(fed) in rules and " rows " in min(fed) else ""

    def gathered(self, source: str, on_donors: Tensor) -> Tensor:
        """The row of each position from the sequence that was drawn for it, of what was computed on all of those."""
        donor = self.inputs[f"donor {source}"]
        own = torch.arange(donor.shape[1]).expand(donor.shape)
        at = self.inputs[f"drawn_at {source}"] if " anywhere " in source else own
        pairs = [zip(*both, strict=True) for both in zip(donor, at, strict=True)]
        rows = [torch.stack([on_donors[d, ..., i, :] for d, i in row], -2) for row in pairs]
        return torch.stack(rows)

    def written(self, path: Path, donors: bool) -> Tensor:
        """What the component at the end of a path writes into the residual stream."""
        if self.holds(path):
            return self.held(path, (), self.config.d_model)
        if source := self.drawn(path, donors):
            return self.gathered(source, self.written(path, True))
        if ("estimate", True) in {(kind, side) for kind, _, side in path[-1].taken}:
            return self.taken(path, None, donors)
        return self.taken(path, self.computed(path, donors), donors)

    def taken(self, path: Path, whole: Tensor | None, donors: bool) -> Tensor:
        """What the end of a path is, of all that its component or slot gives."""
        kept = torch.ones(self.config.n_ctx, 1, dtype=torch.bool)  # positions, elsewhere it is 0
        x = torch.zeros(1, self.config.n_ctx, self.config.d_model).double() if whole is None else whole
        for kind, name, side in path[-1].taken:
            if kind == "positions":
                where = inside(name, self.config.n_ctx) == side
                x, kept = x * where, kept & where
            elif kind == "direction":
                a = self.given[name]
                onto = x @ (a.T @ torch.linalg.inv(a @ a.T) @ a)
                x = onto if side else x - onto
            else:
                assert donors or "rows " not in self.source(path), "rows feed no whole pattern"
                estimate = kept * self.given[name](self.inputs[self.source(path)])
                x = estimate if side else x - estimate
        return x

    def computed(self, path: Path, donors: bool) -> Tensor:
        """What that component writes at all positions."""
        step, (part, side) = path[-1], path[-1].part
        if step.layer < 0:
            assert donors or "rows " not in self.source(path), "rows feed no whole pattern, or value of a rule"
            return self.params["embed.weight"][self.inputs[self.source(path)]] * self.is_.embed_scale
        if not step.heads:
            norm = "ln1" if self.is_.one_norm else "ln2"
            return self.mlp(self.normed(path, f"layers.{step.layer}.{norm}", donors), f"layers.{step.layer}")
        v = sum(self.slot(way, donors) for way in self.slots(path, "v"))
        whole = self.pattern(path, donors) if step.part != ("identity", "in") else torch.zeros(1, 1, 1, 1)
        lag = torch.arange(v.shape[2])[:, None] - torch.arange(v.shape[2])
        lags = [LAGS[each] for each in part.split("|")]
        near = sum(((first <= lag) & (lag < end)).to(v) for first, end in lags).expand(1, v.shape[1], -1, -1)
        near = near if part == "identity" else near * whole
        read = near if side == "in" else whole - near
        return torch.einsum("bhqk,bhkd,hmd->bqm", read, v, self.params[f"layers.{step.layer}.wo"][list(step.heads)])

    def mlp(self, x: Tensor, layer: str) -> Tensor:
        """What an MLP makes of what it reads."""

        def linear(x: Tensor, name: str) -> Tensor:
            return x @ self.params[f"{layer}.w_{name}"].T + self.params.get(f"{layer}.b_{name}", 0)

        act = ACTIVATIONS[self.is_.activation]
        return linear(act(linear(x, "gate")) * linear(x, "in") if self.is_.gated else act(linear(x, "in")), "out")

    def slot(self, path: Path, donors: bool) -> Tensor:
        """Queries, keys or values of some heads: the slot at the end of a path, or a part of it."""
        component, slot = path[-2], path[-1].names[0]
        name, heads = f"layers.{component.layer}", list(component.heads)
        if self.holds(path):
            return self.held(path, component.heads, self.config.d_head)
        if source := self.drawn(path, donors):
            return self.gathered(source, self.slot(path, True))
        x = self.normed(path, f"{name}.{self.first}", donors)
        x = x + self.params["pos.weight"] if self.is_.positions == "shortformer" and slot != "v" else x
        weight = self.params[f"{name}.w{slot}"]
        z = torch.einsum("bpm,hdm->bhpd", x, weight)
        z = z + self.params.get(f"{name}.b{slot}", torch.zeros(len(weight), 1))[:, None]
        z = z if slot == "v" else self.placed(self.qk_normed(z, f"{name}.{slot}_norm.weight"), component.layer)
        return self.taken(path, z[:, [head * len(weight) // self.config.n_heads for head in heads]], donors)

    def qk_normed(self, z: Tensor, name: str) -> Tensor:
        """Queries or keys of a layer, normed if they are."""
        eps = self.config.layer_norm_eps
        if self.is_.qk_norm == "all":
            flat = rms_norm(z.movedim(1, 2).flatten(2), self.params[name].flatten(), eps)
            return flat.unflatten(-1, z.shape[1::2]).movedim(2, 1)
        return rms_norm(z, self.params[name], eps) if self.is_.qk_norm else z

    def placed(self, z: Tensor, layer: int) -> Tensor:
        """Queries or keys of a layer at their positions."""
        rotary = self.is_.rotary[layer % len(self.is_.rotary)]
        return turned(z, rotary.width, rotary.base, rotary.scaling) if rotary else z

    def pattern(self, path: Path, donors: bool) -> Tensor:
        """The attention patterns of the heads at the end of a path."""
        ways = [way for slot in "qk" for way in self.slots(path, slot)]
        forced = {self.source(way) for way in ways}
        if len(ways) == 2 and len(forced) == 1 and min(forced).startswith("attend"):
            assert not any(self.holds(way) for way in self.masks(path)), "nothing holds a mask"
            return self.inputs[min(forced)][None, : len(path[-1].heads), :, : self.config.n_ctx]
        fed = {self.source(end) for inner in self.read_by(path, "qk") for end in self.complete(inner)}
        if not donors and len(fed) == 1 and min(fed).startswith("rows"):
            on_donors, donor = self.pattern(path, True), self.inputs[f"donor {min(fed)}"]
            return torch.stack([torch.stack([on_donors[d, :, i] for i, d in enumerate(row)], 1) for row in donor])
        q, k = (sum(self.slot(way, donors) for way in self.slots(path, slot)) for slot in "qk")
        scores, cap = torch.einsum("bhqd,bhkd->bhqk", q, k) / q.shape[-1] ** 0.5, self.is_.score_cap
        scores = torch.tanh(scores / cap) * cap if cap else scores
        windows = self.is_.windows
        window = windows[path[-1].layer % len(windows)] or self.config.n_ctx
        lag = torch.arange(scores.shape[-1])[:, None] - torch.arange(scores.shape[-1])
        reach = (lag < window) & ((lag >= 0) | torch.tensor(not self.is_.causal))
        for way in self.masks(path):
            assert not self.holds(way), "nothing holds a mask"
            reach = reach & ~self.pads(way, donors)[:, None, None, :, 0].bool()
        return scores.masked_fill(~reach, -torch.inf).softmax(-1)

    def pads(self, path: Path, donors: bool) -> Tensor:
        """Which keys a mask at the end of a path hides, as numbers: those that are pads where it is fed from."""
        if source := self.drawn(path, donors):
            return self.gathered(source, self.pads(path, True))
        assert donors or "rows " not in self.source(path), "rows feed no whole pattern, or value of a rule"
        pads = self.inputs[self.source(path)] == self.is_.pad_token_id
        return self.taken(path, pads[..., None].double(), donors)

    def logits(self) -> Tensor:
        """The logits [batch, position, vocab]; without a table of its own, the unembedding is the embedding."""
        table = self.params.get("unembed.weight", self.params["embed.weight"])
        logits = self.normed((), "final_ln", False) @ table.T + self.params.get("unembed.bias", 0)
        cap = self.is_.logit_cap
        return torch.tanh(logits / cap) * cap if cap else logits
