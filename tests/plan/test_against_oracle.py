"""The fast plan agrees with the naive oracle on random models, splits, rules, sources and selections."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import event, example, given
from hypothesis import strategies as st
from oracle import Oracle, Path
from small import DECLARED, DECODERS, KINDS, Small, random_inputs, random_tensor, small, small_decoder, small_gpt2
from torch import Tensor

from scrub.graph.node import Node
from scrub.paths.pattern import Pattern
from scrub.paths.rules import Rule, resample
from scrub.paths.sources import Source
from scrub.paths.splits import Split
from scrub.paths.terms import Direction, Estimate
from scrub.plan.plan import compile_plan
from scrub.study.metric import divergence, losses
from scrub.text.errors import ScrubError

Spec = tuple[str, str, list[str]]
SIZES = [  # batch, position, heads, d_head, d_model, vocabulary, donors: distinct primes, in different orders
    (3, 7, 2, 5, 11, 13, 19),
    (5, 3, 2, 7, 13, 11, 23),
    (2, 5, 3, 7, 11, 17, 13),
    (7, 11, 2, 3, 5, 19, 29),
]
DECODER_SIZES = [  # the same of decoders, whose d_head turns; the last are the heads of keys, where they are shared
    (3, 7, 6, None, 11, 13, 19, 3),
    (5, 11, 4, None, 13, 7, 23, 2),
    (2, 5, 3, None, 11, 17, 13, 1),
    (7, 3, 2, None, 5, 11, 29, 2),
    (3, 13, 6, None, 7, 5, 17, 2),
]
KEYS = ("batch", "n_ctx", "n_heads", "d_head", "d_model", "vocab_size", "donors")
MASKS = [["current"], ["previous"], ["last 3"], ["lag 2", "current"], ["previous", "current", "lag 2"]]
SPANS = ["0", "1..2", "2..90", "90", "each"]
SOURCES = ["x", "y", "y", "like f", "like g", "zero", "mean", "array a", *DECLARED[:2]]
ROWS, FORCED = ["rows like f", "rows like g", "rows like f"], ["attend lag 2", "attend array p", "attend lag 2"]
UNRULED = -1  # an experiment with no rules


@dataclass(frozen=True)
class Said:
    """An estimate that looks at each token and at all of its sequence, later ones too."""

    width: int

    def __call__(self, tokens: Any) -> Any:
        tokens = np.asarray(tokens)
        numbers = np.arange(1, self.width + 1)
        return np.sin(tokens[..., None] * numbers) + np.cos(tokens.sum(-1)[..., None, None] * numbers)

    def tensor(self, tokens: Tensor) -> Tensor:
        return torch.from_numpy(self(tokens))


@dataclass(frozen=True)
class Case:
    """A belief about a model, in the oracle's terms."""

    family: str  # gpt2, one of KINDS, or the positions of an attention-only model
    n_layers: int
    seed: int
    sizes: dict[str, int]
    roles: dict[str, list[tuple[int, int]]]
    splits: list[Spec]
    experiments: list[list[tuple[str, str]]]  # the rules of each
    first: int = 0  # positions at which whatever stands in for a sequence has its tokens
    together: int = 1  # products with the same weights that are computed as one

    def oracle(self, model: object = None, experiment: int = 0) -> Oracle:
        """The oracle, which needs no weights to list paths."""
        positions = {} if self.family == "gpt2" else {"positions": self.family}
        said = {"positions": "none", "d_mlp": 23, **KINDS[self.family]} if self.family in KINDS else positions
        config = SimpleNamespace(**{**said, **self.sizes, "n_layers": self.n_layers})
        blank = SimpleNamespace(config=config, params={}, inputs={})
        given = {name: of if isinstance(of, Tensor) else of.tensor for name, of in self.given.items()}
        return Oracle(model or blank, self.roles, self.splits, [*self.experiments, []][experiment], given)

    @property
    def given(self) -> dict[str, Any]:
        """Directions, and an estimate."""
        wide = self.sizes["d_model"]
        narrow = self.sizes.get("d_head") or (5 if KINDS[self.family].get("d_head") else 4)
        generator = torch.Generator().manual_seed(self.seed)
        directions = {name: random_tensor(generator, 2, width) for name, width in (("u", wide), ("w", narrow))}
        return directions | {"phi": Said(wide)}

    @cached_property
    def model(self) -> Small:
        if self.family in KINDS:
            shape = {name: size for name, size in self.sizes.items() if name not in {"batch", "donors"}}
            made = small_decoder(self.family, self.n_layers, self.seed, **shape)
            batch, donors = self.sizes["batch"], self.sizes["donors"]
            inputs = random_inputs(made.config, self.seed + 1, batch=batch, donors=donors, some=17)
            return self.beginning_alike(Small(made.config, made.params, inputs))  # type: ignore[arg-type]
        if self.family == "gpt2":
            return self.beginning_alike(small_gpt2(self.n_layers, self.seed, tied=self.seed % 2 == 0, **self.sizes))
        biases = [(), ("v", "o"), ("q", "k", "v", "o", "unembed")][self.seed % 3]
        return self.beginning_alike(small(self.family, self.n_layers, self.seed, biases=biases, **self.sizes))

    def needed(self, split: Split) -> Any:
        """What a split needs from others than its text."""
        if split.kind == "estimate":
            return Estimate("phi", lambda tokens, _: self.given["phi"](tokens))
        if split.kind == "direction":
            return Direction.of(split.names[0], self.given[split.names[0]])
        return self.sizes["n_ctx"] if split.needs else None

    def beginning_alike(self, of: Small) -> Small:
        for source in SOURCES[1:5] + SOURCES[-2:]:
            of.inputs[source][:, : self.first] = of.inputs["x"][:, : self.first]
        return of

    def graph(self, experiment: int) -> Node:
        graph = self.model.graph
        for pattern, kind, names in self.splits:
            quoted = " ".join(f'"{name}"' if kind == "mask" else name for name in names)
            split = Split.parse(f"{pattern} by {kind} {quoted}")
            graph = replace(split, of=self.needed(split)).apply(graph, self.roles)
        return resample(
            graph, [Rule(Pattern.parse(each), Source.parse(source)) for each, source in self.experiments[experiment]]
        )


def is_slot(path: Path) -> bool:
    return path[-1].names[0] in {"q", "k", "v"}


def text(path: Path) -> str:
    return "/".join(step.names[-1] for step in path)


def components(oracle: Oracle) -> list[Path]:
    """Every component at every path, listed by the oracle."""
    found: list[Path] = []
    stack = oracle.below(())
    while stack:
        path = stack.pop(0)
        found.append(path)
        stack += oracle.read_by(path) if path[-1].layer >= 0 else []
    return found


def attention(oracle: Oracle) -> list[Path]:
    """Every attention component at every path."""
    return [path for path in components(oracle) if path[-1].heads]


def slots(oracle: Oracle) -> list[Path]:
    """Every slot of these."""
    heads = attention(oracle)
    read = {path: "v" if path[-1].part == ("identity", "in") else "qkv" for path in heads}
    masks = [way for path, names in read.items() if "q" in names for way in oracle.masks(path)]
    return [way for path, names in read.items() for slot in names for way in oracle.slots(path, slot)] + masks


@st.composite
def generalised(draw: st.DrawFn, path: str, rule: bool) -> str:
    """A pattern that matches a path, and perhaps others."""
    steps = path.split("/")
    for at, step in enumerate(steps):
        last = at == len(steps) - 1
        options = [step, step, step]
        if step in {"q", "k", "v"}:
            options += [f"{{{step},q}}"] + (["*"] if rule or not last else [])
        elif step[0] in "qkv":
            options += [step[0] + "*"] if rule or not last else []
        elif step[0] in "am" and (rule or not last):  # what a split ends at stays what it is
            options += [step[:2] + "*", f"{{{step},emb}}"] + (["*", re.sub(r"\[.*", "[*]", step)] if rule else [])
        steps[at] = draw(st.sampled_from(options))
    cut = draw(st.integers(0, len(steps) - 1))
    if draw(st.booleans()):
        steps = [*steps[: draw(st.integers(0, cut))], "**", *steps[cut:]]
    if rule and draw(st.integers(0, 3)) == 0:
        steps.append("**")
    return "/".join(steps)


@st.composite
def a_split(draw: st.DrawFn, oracle: Oracle) -> Spec:
    """A split of a component that is there, which may happen at other places too."""
    if draw(st.integers(0, 2)) == 0:
        place = draw(st.sampled_from([*components(oracle), *slots(oracle)]))
        named = {"positions": [draw(st.sampled_from(SPANS))], "direction": ["w" if is_slot(place) else "u"]}
        kind = draw(st.sampled_from(["positions", "direction", "estimate"]))
        return draw(generalised(text(place), rule=False)), kind, named.get(kind, ["phi"])
    path = draw(st.sampled_from([path for path in attention(oracle) if not path[-1].taken] or attention(oracle)))
    step = path[-1]
    kinds = ["heads", "mask", "identity"] if step.part == ("all", "in") else ["heads"]
    kind = draw(st.sampled_from(kinds))
    names = {"mask": draw(st.sampled_from(MASKS)), "identity": []}.get(kind)
    if names is None:
        held = {role: {h for at, h in heads if at == step.layer} for role, heads in oracle.roles.items()}
        there = [role for role, heads in held.items() if heads and heads <= set(step.heads)]
        name = draw(st.sampled_from([*there, *map(str, step.heads)]))
        names = [name]
    return draw(generalised(text(path), rule=False)), kind, names


@st.composite
def a_rule(draw: st.DrawFn, oracle: Oracle) -> tuple[str, str]:
    """A rule about paths that are there."""
    heads = attention(oracle)
    whole = [p for p in heads if p[-1].part != ("identity", "in")]
    if whole and draw(st.integers(0, 2)) == 0:  # rows of donors, and what is attended by, feed whole attention patterns
        pattern = draw(generalised(text(draw(st.sampled_from(whole))), rule=True)).removesuffix("/**")
        forced = draw(st.booleans())
        whole_pattern = "{q,k,mask}" if oracle.masked and not forced else "{q,k}"
        return f"{pattern}/{whole_pattern}" + ("" if forced else "/**"), draw(
            st.sampled_from(FORCED if forced else ROWS)
        )
    if draw(st.integers(0, 5)) == 0:  # rows of a value, which a later rule may take a part of
        place = draw(st.sampled_from([*components(oracle), *slots(oracle)]))
        return f"{draw(generalised(text(place), rule=True)).removesuffix('/**')}/**", draw(
            st.sampled_from(DECLARED[2:])
        )
    ends = [end for p in oracle.below(()) for end in oracle.complete(p)]
    end = draw(st.sampled_from(ends))
    length = draw(st.integers(1, len(end)))
    return draw(generalised(text(end[:length]), rule=True)), draw(st.sampled_from(SOURCES))


def sizes_of(family: str, sizes: tuple[int | None, ...]) -> dict[str, int]:
    """The sizes of a decoder, but for those that its family has: one that shares no keys shares none here."""
    found = {name: size for name, size in zip((*KEYS, "n_kv_heads"), sizes, strict=True) if size is not None}
    return found | ({"n_kv_heads": found["n_heads"]} if "n_kv_heads" in KINDS[family] else {})


@st.composite
def cases(draw: st.DrawFn, families: Sequence[str] = ("gpt2", "shortformer", "standard")) -> Case:
    family = draw(st.sampled_from(families))
    layers = draw(st.sampled_from([1, 2, 2, 2, 3] if family in {"shortformer", "standard"} else [1, 2, 2]))
    if family in KINDS:
        sizes = sizes_of(family, draw(st.sampled_from(DECODER_SIZES)))
    else:
        sizes = dict(zip(KEYS, draw(st.sampled_from(SIZES)), strict=True))
    every = [(layer, head) for layer in range(layers) for head in range(sizes["n_heads"])]
    owners = draw(st.lists(st.sampled_from(["prev", "self", None]), min_size=len(every), max_size=len(every)))
    roles = {role: [at for at, owner in zip(every, owners, strict=True) if owner == role] for role in ("prev", "self")}
    first, together = draw(st.sampled_from([0, 1, 2, 4])) % sizes["n_ctx"], draw(st.sampled_from([1, 2, 5]))
    case = Case(family, layers, draw(st.integers(0, 9999)), sizes, roles, [], [], first, together)
    for _ in range(draw(st.integers(0, 4 - layers))):
        case.splits.append(draw(a_split(case.oracle(None, UNRULED))))
        if not possible(case):
            case.experiments.append([])
            return case
    for _ in range(3):
        count = draw(st.integers(0, 4))
        case.experiments.append([draw(a_rule(case.oracle(None, UNRULED))) for _ in range(count)])
    return case


def possible(case: Case) -> bool:
    """Whether the splits can be made, wherever they match."""
    try:
        oracle = case.oracle(None, UNRULED)
        return bool(components(oracle)) and bool(slots(oracle) or not attention(oracle))
    except AssertionError:
        return False


def expected(oracle: Oracle) -> Tensor | None:
    """What the oracle says, or None if this can't be split or fed so."""
    try:
        logits = oracle.logits()
        return logits.expand(len(oracle.inputs["x"]), -1, -1)
    except AssertionError:
        return None


def same(name: str, found: Tensor, answer: Tensor) -> None:
    found = found.expand_as(answer)  # what reads no sequence is the same for all
    torch.testing.assert_close(found, answer, rtol=0, atol=1e-9, msg=lambda message: f"{name}: {message}")


def told_apart(family: str, split: Spec, *experiments: tuple[str, str]) -> Case:
    """A case that is written out: a split of a model of two layers, and experiments of a rule each."""
    sizes = dict(zip(KEYS, SIZES[0], strict=True))
    return Case(family, 2, 1, sizes, {}, [split], [[], *([rule] for rule in experiments)])


# What random cases hardly ever reach: both parts of a mask with their queries and keys, one of them on other values;
# experiments that differ in some heads of the last layer, or of one whose stream an MLP reads, and in nothing else.
IN_A_MASK = told_apart("standard", ("a1", "mask", ["previous"]), ("a1[previous]/v/a0", "y"), ("a1[rest]/v/**", "y"))
IN_MASKS = told_apart(
    "gpt2",
    ("**/a0", "mask", ["lag 2", "current", "previous"]),
    ("a1/k/a0[current]/v/**", "y"),
    ("**/a0[{lag 2,previous}]/v/**", "y"),
)
HEADS = (("**/a1.0/v/**", "y"), ("**/a1.0/{q,k}/**", "like f"))
IN_SOME_HEADS = [told_apart(family, ("**/a1", "heads", ["0"]), *HEADS) for family in ("standard", "gpt2")]

ENCODERS = tuple(name for name in KINDS if name not in DECODERS)
# a mask of which some positions are fed apart, in one head of a layer; and tokens that all begin alike
SOME_PADS = Case(
    "encoder",
    2,
    1,
    sizes_of("encoder", DECODER_SIZES[1]),
    {},
    [("a1", "heads", ["0"]), ("a1.0/mask", "positions", ["1..4"])],
    [[], [("a1.0/mask[rest]", "y")], [("**/mask", "like f"), ("a1.0/q/**", "y")]],
    first=4,
)
# an estimate of what is kept at some positions, which is 0 elsewhere, also of what directions leave of that; and one
# that looks at later positions, where first rows are the same
AT_SOME = [
    replace(
        told_apart("gpt2", ("**/a0", "positions", ["1..2"]), (f"{of}[phi]", "y"), (f"{of}[rest]", "y")),
        splits=[("**/a0", "positions", ["1..2"]), *before, (of, "estimate", ["phi"])],
        first=first,
    )
    for of, before, first in (
        ("**/a0[1..2]", [], 0),
        ("**/a0[rest]", [], 4),
        ("**/a0[1..2][rest]", [("**/a0[1..2]", "direction", ["u"])], 0),
    )
]

# a group that has all heads of a layer, beside the layer itself
ALL_HEADS = Case(
    "llama", 1, 0, sizes_of("llama", DECODER_SIZES[3]), {"all": [(0, 0), (0, 1)]}, [("a0", "heads", ["all"])], [[]]
)


def test_the_examples_are_of_what_random_cases_hardly_reach() -> None:
    """Values that are told apart in a mask are subtracted there once, streams that differ in some heads share a map."""
    cases = (IN_A_MASK, IN_MASKS, *IN_SOME_HEADS)
    plans = [compile_plan({str(at): losses(case.graph(at)) for at in range(3)}) for case in cases]
    masked, apart, *shared = [[step.node for step in plan.steps] for plan in plans]
    assert [each.inputs[1].op for each in masked if each.op == "attend_masked"] == ["sub", "sub"]
    in_masks = sorted((each.arguments["mask"], each.inputs[1].op) for each in apart if each.op == "attend_masked")
    assert in_masks == [("current", "sub"), ("lag 2", "sub"), ("previous", "sub")]
    assert all(sum(each.op == "change" for each in steps) == 3 for steps in shared)


@given(cases())
@example(IN_A_MASK)
@example(IN_MASKS)
@example(IN_SOME_HEADS[0])
@example(IN_SOME_HEADS[1])
@example(AT_SOME[0])
@example(AT_SOME[1])
@example(AT_SOME[2])
def test_the_plan_agrees_with_the_oracle(case: Case) -> None:
    agree(case)


@given(cases(tuple(DECODERS)))
@example(ALL_HEADS)
def test_the_plan_of_a_decoder_agrees_with_the_oracle(case: Case) -> None:
    agree(case)


@given(cases(ENCODERS))
@example(SOME_PADS)
def test_the_plan_of_an_encoder_agrees_with_the_oracle(case: Case) -> None:
    agree(case)


def agree(case: Case) -> None:
    """Logits, losses and divergences of several experiments in one plan, of all rows and of selected ones."""
    model, outputs, answers = case.model, {}, {}
    target = model.inputs["target"]
    for number, rules in enumerate(case.experiments):
        logits = expected(case.oracle(model, number))
        if logits is None:
            event("not possible")
            with pytest.raises(ScrubError):
                case.graph(number)
            continue
        for source in dict.fromkeys(source for _, source in rules):
            event(source)
        outputs[f"logits {number}"], answers[f"logits {number}"] = case.graph(number), logits
    for name, graph in list(outputs.items()):
        logits, other = answers[name].log_softmax(-1), answers[next(iter(answers))].log_softmax(-1)
        outputs[f"loss of {name}"], answers[f"loss of {name}"] = losses(graph), -logits.gather(-1, target)
        outputs[f"kl of {name}"] = divergence(graph, next(iter(outputs.values())))
        answers[f"kl of {name}"] = (other.exp() * (other - logits)).sum(-1, keepdim=True)
    for name, found in model.run(outputs).items():
        same(name, found, answers[name])
    for name, found in model.run(outputs, first=case.first, together=case.together).items():
        same(f"{name}, {case.first} first rows shared, {case.together} products together", found, answers[name])
    as_written = {name: graph for name, graph in outputs.items() if name.startswith("logits")}
    for name, found in model.run(as_written, simplified=False).items():
        same(f"{name}, as written", found, answers[name])
    rows = model.inputs["selected"][..., None]
    for name, found in model.run(outputs, selected=True, first=case.first, together=case.together).items():
        answer = answers[name].gather(1, rows.expand(-1, -1, answers[name].shape[-1]))
        same(f"{name}, selected", found, answer)
    plan = compile_plan(outputs, first=case.first, together=case.together) if outputs else None
    ops = {step.node.op for step in plan.steps} if plan else set()
    event(f"{case.family}, low rank: {'changed' in ops}, fused: {'attention' in ops}")
    event(f"first rows shared: {'join' in ops}, products together: {'batch' in ops}")
