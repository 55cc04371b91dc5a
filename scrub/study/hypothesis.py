"""Hypotheses: splits, and for each part the rules that say which paths are resampled.

A declaration is written as in the published drawings' captions:

    splits  a1.ind/k/a0.prev   by mask "previous"
    q       a1.ind/q/a0.*/**                     -> y
    k       a1.ind/k/**                          -> y
            a1.ind/k/a0.prev[previous]/v/emb     -> x
    v       a1.ind/v/a0.*/**                     -> y

Instead of parts it may list the edges that are kept, as patterns of `a1.3/k/a0.1` or `out/a1.3`: a path is fed by x
exactly when all of its edges are, and by y otherwise:

    edges   out/{a1.3,a1.6}  a1.{3,6}/k/a0.1  a1.*/q/emb

What feeds paths may agree on features, functions of the tokens, in draws of the hypothesis' own. Each is of any row of
the data, of one that agrees with x, or of one that agrees with the row of another draw, which stands above it:

    draws   H   like balanced
            Hi  rows like open_at of H
    out     **            -> any
            a2.1/**       -> H
            a2.1/k/**     -> Hi

`rows like F` draws a row for each position: the same position of another row, or any position of any row where what is
fed doesn't know its own, as with what is written into a stream that carries no positions (scrub/paths/anywhere.py).

A line that begins with a name opens that part; indented lines go on with it. `#` begins a comment. `$name` stands for
the value of a parameter that the hypothesis declares: `Hypothesis(..., parameters={"positions": (1, 2, 3)})`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import product
from pathlib import Path
from string import Template
from textwrap import dedent
from typing import Any

from scrub.graph.node import Node
from scrub.paths.anywhere import resample_anywhere
from scrub.paths.cut import Cut, cut
from scrub.paths.edges import by_head, checked_edges, heads_apart, keep, read_edges
from scrub.paths.pattern import Pattern
from scrub.paths.roles import Roles
from scrub.paths.rules import Rule
from scrub.paths.sources import Draw, Drawn
from scrub.paths.splits import Split
from scrub.paths.terms import Direction, Estimate
from scrub.paths.unmatched import Unmatched
from scrub.study.code import code_hash
from scrub.study.draws import Feature
from scrub.study.parameters import Parameters, Value, checked, filled, marks, suffix, unknown_parameter
from scrub.study.settings import check_other
from scrub.text.errors import ScrubError
from scrub.text.fields import Named, check_fields
from scrub.text.wording import short

SPLITS, DRAWS, EDGES, ALL = "splits", "draws", "edges", "all"

Estimates = Mapping[str, Callable[..., Any] | Mapping[str, Callable[..., Any]]]  # by name, as features are
Features = Mapping[str, Feature | Mapping[str, Feature]]  # by name; where models differ, by the model's name inside


@dataclass(frozen=True, repr=False)
class Hypothesis:
    """A belief about a model: what it says (`claim`) and the declaration that tests it (`rules`).

    `Hypothesis("v  a1.ind/v/a0.*/** -> y", study="induction")`: the values of induction heads need no layer-0 head.
    `features` are what its `like` sources agree on: each a function, or one for each model, by the model's
    name. `estimates` are the functions that its splits `by estimate NAME` name, of tokens [row, position] and the
    tokenizer, and of the `model` where they have a parameter called so: numbers [row, position, width]. `directions`
    are those of its splits `by direction NAME`: a vector [width], several [number, width], or a function of the model
    that gives them. Both may be one for each model, too. `study` is the name of the study whose behaviour it is tested
    on, unless it lies in a study's own folder. `published` are percentages recovered that were published for it, by
    part, `published_ratios` those of a difference of logits to the model's; they stand beside runs with the feed
    `published_other` (what y stands for, by default what the study says) and the data `published_data` (by default any)
    alone. `parameters` are the values to try for each `$name` in the rules; the first is the default, which the
    hypothesis means as it is.
    `values` are those that it means. `null_of` is the name of the hypothesis that it is a random one of the size of,
    `control_of` of that which it is a control of (scrub/study/controls.py).
    Raises ScrubError where the declaration can't be read.
    """

    rules: str
    claim: str = ""
    name: str = ""
    features: Features = field(default_factory=dict)
    published: Mapping[str, int | float] = field(default_factory=dict)
    study: Named | None = None
    path: Path | None = field(default=None, compare=False)
    parameters: Mapping[str, Any] = field(default_factory=dict)  # Parameters, once they are checked
    values: Mapping[str, Value] = field(default_factory=dict)
    null_of: str = ""
    control_of: str = ""
    published_ratios: Mapping[str, int | float] = field(default_factory=dict)
    published_other: str | None = None
    published_data: str | None = None
    estimates: Estimates = field(default_factory=dict)
    directions: Mapping[str, Any] = field(default_factory=dict)  # Direction, or a function, once they are checked
    terms: Mapping[str, Any] = field(default_factory=dict, compare=False)  # on a model: see scrub/study/terms.py

    def __post_init__(self) -> None:
        check_fields(self, "the hypothesis' ")
        if self.parameters:
            declared = {name: checked(name, values) for name, values in self.parameters.items()}
            if unused := [name for name in declared if name not in marks(self.rules)]:
                raise ScrubError(f"the parameter {unused[0]!r} is in no rule: write ${unused[0]} there, or take it out")
            object.__setattr__(self, "parameters", declared)
            object.__setattr__(self, "values", {name: values[0] for name, values in declared.items()})
        object.__setattr__(self, "directions", {name: _given(name, each) for name, each in self.directions.items()})
        for split in self.splits:  # read now, so that a mistake is told where it was made
            if split.kind in {"estimate", "direction"} and split.names[0] not in self._declared(split.kind):
                raise ScrubError(
                    f"the split '{split}' names {split.names[0]!r}, which is no {split.kind} of the hypothesis: pass "
                    f"{split.kind}s={{{split.names[0]!r}: ...}}"
                )
        if self.edges and len(self.sections) > 1:
            other = next(name for name in self.sections if name != EDGES)
            raise ScrubError(
                f"a set of edges is a whole hypothesis: leave {other!r} out, or write rules instead of edges"
            )
        if not self.parts:
            raise ScrubError("the hypothesis has no rules: write at least one, as in 'k  a1.ind/k/** -> y'")
        for said in ("published", "published_ratios"):
            if unknown := [part for part in getattr(self, said) if part not in self.parts]:
                raise ScrubError(
                    f"the hypothesis' {said} name a part {short(unknown[0])}, and it has {', '.join(self.parts)}"
                )
        if self.published_other is not None:
            check_other(self.published_other)
        if held := [rule for rules in self.parts.values() for rule in rules if rule.holds]:
            raise ScrubError(
                f"the rule '{held[0]}' ablates, and a hypothesis resamples: feed x, y or 'like FEATURE', or run it as "
                "an intervention ('scrub ablate')"
            )
        sources = {rule.source for rules in self.parts.values() for rule in rules}
        drawn = {*self.draws.values(), *(source for source in sources if isinstance(source, Draw))}
        asked = {feature for source in drawn for feature in source.features}
        if missing := sorted(asked - set(self.features)):
            raise ScrubError(
                f"a rule draws like {missing[0]!r}, which is no feature of the hypothesis: "
                f"pass features={{{missing[0]!r}: ...}}"
            )

        used = {each for source in sources if isinstance(source, Drawn) for each in source.chain}
        if idle := [name for name, draw in self.draws.items() if draw not in used]:
            raise ScrubError(f"the draw {idle[0]!r} feeds no rule, and no draw that does is of it: take it out")

    def __repr__(self) -> str:
        """Give its name and claim over what it declares."""
        heading = ": ".join(filter(None, (self.name or "hypothesis", " ".join(self.claim.split()))))
        return f"{heading}\n{self.declaration.strip(chr(10)).rstrip()}"

    @property
    def generated(self) -> bool:
        """Whether nobody wrote it: it is a random one, or a control."""
        return bool(self.null_of or self.control_of)

    @cached_property
    def declaration(self) -> str:
        """The rules with the values of the parameters in them."""
        return filled(dedent(self.rules), self.values)

    @cached_property
    def sections(self) -> Mapping[str, list[str]]:
        """The lines of the declaration, by the part that they are of, or `splits`, `draws` or `edges`."""
        sections: dict[str, list[str]] = {}
        current = None
        for line in self.declaration.splitlines():
            text = line.partition("#")[0].rstrip()
            opening = re.match(r"([A-Za-z_]\w*)\s+(?!by\s|->)(\S.*)", text)
            if opening:
                current, text = opening.groups()
            if text.strip():
                if not opening and re.fullmatch(r"[A-Za-z_]\w*", text):
                    first = {SPLITS: "split", EDGES: "edge", DRAWS: "draw"}.get(text, "rule")
                    raise ScrubError(f"{text!r} has nothing behind it: write its first {first} on the same line")
                if current is None or (not opening and not text[0].isspace()):
                    raise ScrubError(
                        f"{text.strip()!r} stands under no part: begin the line with its name, as in 'k  …'"
                    )
                sections.setdefault(current, []).append(text)
        return sections

    @cached_property
    def splits(self) -> tuple[Split, ...]:
        """The splits, in the order in which they happen."""
        found = (Split.parse(text) for text in self.sections.get(SPLITS, ()))
        return tuple(replace(split, of=self._of(split)) if split.needs else split for split in found)

    def _declared(self, kind: str) -> Mapping[str, Any]:
        return self.estimates if kind == "estimate" else self.directions

    def _of(self, split: Split) -> Any:
        """Give what a split needs: on a model what was made for that, else as much as is known without one."""
        made = self.terms.get(split.needs)
        if made is not None or split.kind == "positions":
            return made
        given = self._declared(split.kind).get(split.names[0])
        if isinstance(given, Direction):
            return given
        if split.kind == "direction" or not callable(given):
            return None
        return Estimate(split.names[0], given, code=code_hash(given, f"the estimate {split.names[0]!r}"))

    @cached_property
    def draws(self) -> Mapping[str, Drawn]:
        """The draws that it declares, by name, each below those that it is of."""
        found: dict[str, Drawn] = {}
        for text in self.sections.get(DRAWS, ()):
            made = Drawn.declared(text, found)
            found[made.name] = made
        return found

    @cached_property
    def edges(self) -> tuple[str, ...]:
        """The patterns of the edges that are kept, where the hypothesis is a set of those."""
        return tuple(text for line in self.sections.get(EDGES, ()) for text in line.split())

    @cached_property
    def parts(self) -> dict[str, tuple[Rule, ...]]:
        """The rules of each part, and of `all` of them together. A random hypothesis has one part, drawn for that.

        A set of edges is one part without rules.
        """
        if self.edges:
            return {ALL: ()}
        parts = {
            name: tuple(Rule.parse(text, self.draws) for text in lines)
            for name, lines in self.sections.items()
            if name not in {SPLITS, DRAWS}
        }
        if self.null_of:
            return parts
        if ALL in parts:
            raise ScrubError("a part can't be called 'all': that is the parts together")
        return parts | {ALL: tuple(rule for rules in parts.values() for rule in rules)} if parts else {}

    def has_feature(self, name: str, model: str) -> bool:
        """Tell whether it has the feature for a model, named as in `--model`."""
        choices = self.features[name]
        return callable(choices) or model.rpartition("/")[2] in choices

    def feature(self, name: str, model: str, spelled: str = "") -> Feature:
        """Choose the feature for a model, named as in `--model`. Raises ScrubError if there is none for this one.

        `spelled` is what a command has to call the model, where that is no name.
        """
        choices = self.features[name]
        if callable(choices):
            return choices
        if not self.has_feature(name, model):
            kept = f"'scrub typicality {spelled or model} --write' measures and keeps one" + (
                "" if name == "typicality" else f", as --name {name}"
            )
            raise ScrubError(
                f"{self.path or self.name} has the feature {name!r} for {', '.join(choices)}, but none for "
                f"{model.rpartition('/')[2]}: {kept}, or run hypotheses without a feature"
            )
        return choices[model.rpartition("/")[2]]

    def estimate(self, name: str, model: str, whole: Any = None) -> Estimate:
        """Make the estimate for a model, named as in `--model`; the `whole` model is what it is asked with.

        Raises ScrubError if there is none for this one, or no hash can be made of its code.
        """
        function = self._choice("estimate", name, model)
        tokenizer = None if whole is None else whole.tokenizer
        return Estimate(name, function, tokenizer, whole, code_hash(function, f"the estimate {name!r}"))

    def direction(self, name: str, model: str, whole: Any = None) -> Direction:
        """Make the direction for a model, named as in `--model`: of a function, what it gives of the `whole` model.

        Raises ScrubError if there is none for this one, or what there is isn't one.
        """
        given = self._choice("direction", name, model)
        if isinstance(given, Direction):
            return given
        if whole is None:
            return Direction(name, code_hash(given, f"the direction {name!r}"))
        return Direction.made(name, given, whole)

    def _choice(self, kind: str, name: str, model: str) -> Any:
        """Choose the estimate or direction for a model. Raises ScrubError if there is none for this one."""
        choices, short_name = self._declared(kind)[name], model.rpartition("/")[2]
        if not isinstance(choices, Mapping):
            return choices
        if short_name not in choices:
            raise ScrubError(
                f"{self.path or self.name} has the {kind} {name!r} for {', '.join(choices)}, but none for {short_name}"
                ": declare one for it, or run hypotheses without"
            )
        return choices[short_name]

    def part(self, name: str) -> tuple[Rule, ...]:
        """Give the rules of one part. Raises ScrubError if there is no such part."""
        if name not in self.parts:
            raise ScrubError(f"{self.name or 'the hypothesis'} has no part {name!r}: it has {', '.join(self.parts)}")
        return self.parts[name]

    def with_parameters(self, **values: Value) -> Hypothesis:
        """Fill in these values of the parameters, and the defaults of the others; the name says which.

        Raises ScrubError for a parameter that it doesn't declare, or a value that makes the rules unreadable.
        """
        for name, value in values.items():
            if name not in self.parameters:
                raise unknown_parameter(name, self.parameters, self.name or "the hypothesis")
            checked(name, (value,))
        chosen = {**self.values, **values}
        name = (self.name or "hypothesis") + suffix(chosen)
        default = all(str(chosen[key]) == str(self.values[key]) for key in values)
        try:
            concrete = replace(
                self,
                rules=filled(dedent(self.rules), chosen),
                claim=Template(self.claim).safe_substitute(chosen),
                name=name,
                published=self.published if default else {},
                published_ratios=self.published_ratios if default else {},
                parameters={},
                values=chosen,
            )
        except ScrubError as error:
            raise ScrubError(f"{name}: {error}") from error
        return concrete

    def grid(self, values: Parameters | None = None) -> list[Hypothesis]:
        """List a hypothesis for every combination of the parameters' values: those given, else those declared.

        Raises ScrubError as :meth:`with_parameters` does.
        """
        if unknown := [name for name in values or {} if name not in self.parameters]:
            raise unknown_parameter(unknown[0], self.parameters, self.name or "the hypothesis")
        axes = {name: checked(name, choices) for name, choices in {**self.parameters, **(values or {})}.items()}
        combinations = (dict(zip(axes, choice, strict=True)) for choice in product(*axes.values()))
        return [self.with_parameters(**chosen) for chosen in combinations] if axes else [self]

    def words(self, model: Node) -> list[Pattern]:
        """The patterns that tell heads apart: those of rules and splits, and of heads that are split off.

        Between edges, all heads of a model.
        """
        if self.edges:
            return heads_apart(model)
        rules = [rule.pattern for rules in self.parts.values() for rule in rules]
        off: list[Pattern] = []
        for split in self.splits:
            layers = dict.fromkeys(re.split(r"[.[]", last)[0] for last in split.pattern.alternatives[-1])
            names = split.names if split.kind == "heads" else ()
            off += [split.pattern, *(Pattern(f"**/{layer}.{name}") for layer in layers for name in names)]
        return [*rules, *off]

    def cut(
        self, model: Node, roles: Roles, also: Iterable[Pattern] = (), elsewhere: Collection[Unmatched] = ()
    ) -> Cut:
        """Cut the model as finely as the rules tell heads apart, and split it along the hypothesis' paths.

        `also` are patterns of others that tell heads apart in the same graph; what matches `elsewhere`, on another of
        several models, may match nothing here.
        Raises ScrubError for a split that can't be made, a rule that matches no path, or a pattern that is no edge.
        """
        if self.edges:
            return checked_edges(self.edges, by_head(model, roles), elsewhere)
        rules = [rule for rules in self.parts.values() for rule in rules]
        return cut(model, roles, rules, self.splits, also=also, generated=self.generated, elsewhere=elsewhere)

    def can_match(self) -> frozenset[Unmatched]:
        """List all that may match something in one model and nothing in another: rules, splits, edges, alternatives."""
        found: list[Unmatched] = []
        for rule in (rule for rules in self.parts.values() for rule in rules):
            found += Unmatched.each("rule", str(rule), rule.pattern)
        for split in self.splits:
            found += Unmatched.each("split", str(split), split.pattern)
            found += [Unmatched("split", str(split), name) for name in split.names if split.kind == "heads"]
        for edge in self.edges:
            found += Unmatched.each("edge", edge, Pattern(edge))
        return frozenset(found)

    def scrub(self, model: Node, roles: Roles, part: str = ALL, also: Iterable[Pattern] = ()) -> Node:
        """Build the graph of one experiment. Raises ScrubError as :meth:`cut` does."""
        rules, found = self.part(part), self.cut(model, roles, also)
        if self.edges:
            return keep(found.graph, read_edges(self.edges, found))
        return resample_anywhere(found.graph, found.rules(rules))[1]

    def named(self, name: str, path: Path | None = None, claim: str = "") -> Hypothesis:
        """Name the hypothesis, and give it the claim if it has none of its own."""
        return replace(self, name=name, path=path, claim=self.claim or claim)


def _given(name: str, given: Any) -> Any:
    """Take a direction, or one for each model. Raises ScrubError for what is none."""
    if isinstance(given, Mapping):
        return {model: _given(name, each) for model, each in given.items()}
    return given if callable(given) else Direction.of(name, given)
