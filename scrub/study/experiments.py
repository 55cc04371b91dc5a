"""The experiments of a study as graphs: how each is built, and what it is called."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from functools import cached_property
from types import MappingProxyType
from typing import TypeAlias

from scrub.graph.node import Node
from scrub.paths.anywhere import resample_anywhere
from scrub.paths.cut import Cut, cut
from scrub.paths.edges import Edge, connected, keep, read_edges
from scrub.paths.gathered import draws
from scrub.paths.means import with_means
from scrub.paths.pattern import Pattern
from scrub.paths.roles import Roles
from scrub.paths.rules import Rule, check_nested, held, held_by, resample
from scrub.paths.scope import Scope
from scrub.paths.sources import Draw, Held
from scrub.paths.unmatched import LeftOut, Unmatched
from scrub.study.claims import Claim
from scrub.study.hypothesis import ALL, Hypothesis
from scrub.study.metric import Metric
from scrub.study.study import Study
from scrub.text.collecting import uncollected
from scrub.text.errors import ScrubError
from scrub.text.wording import few, short

Elsewhere: TypeAlias = Mapping[str, Collection[Unmatched]]  # what of each hypothesis matches on another model


class Name(str):
    """The name of an experiment: HYPOTHESIS/PART, or what an anchor or intervention is called. It is that text.

    `Name("naive", "q")` is "naive/q", and says of which hypothesis and part it is.
    """

    __slots__ = ("hypothesis", "part")

    hypothesis: str
    part: str

    def __new__(cls, hypothesis: str, part: str = "") -> Name:
        name = super().__new__(cls, f"{hypothesis}/{part}" if part else hypothesis)
        name.hypothesis, name.part = hypothesis, part
        return name

    def __getnewargs__(self) -> tuple[str, str]:  # type: ignore[override]
        return self.hypothesis, self.part


UNSCRUBBED, BASELINE, ALL_SCRUBBED = Name("unscrubbed"), Name("baseline"), Name("all_scrubbed")
ANCHORS = (UNSCRUBBED, BASELINE, ALL_SCRUBBED)
NOTHING_LEFT_OUT = LeftOut()
_BEHIND_A_LAYER, _LETTER = re.compile(r"\.(\{[^{}]*\}|[\w*-]+)"), re.compile("[A-Za-z]")  # roles have letters


@dataclass(frozen=True)
class Experiment:
    """One scrubbed graph; `before` is the graph that its rules resample."""

    name: Name
    before: Node
    rules: tuple[Rule, ...]
    graph: Node
    hypothesis: Hypothesis | None = None
    warnings: tuple[str, ...] = ()
    scope: tuple[Rule, ...] = ()  # the rules of its study's baseline, read as its own are
    drawn: Node | None = None  # where y is a mean: the graph in which it is drawn
    kept: frozenset[Edge] | None = None  # of a set of edges: those on whole paths of it
    left_out: LeftOut = NOTHING_LEFT_OUT  # of its hypothesis, as nothing in this model matches it

    @property
    def resampled(self) -> Node:
        """The graph as its rules say it, with y drawn."""
        return self.graph if self.drawn is None else self.drawn

    @cached_property
    def claim(self) -> Claim:
        """The parts that it scrubs together, and the percent of the baseline's paths that it resamples."""
        several = self.part == ALL and self.hypothesis is not None
        parts = self._scrubbed_parts(self.hypothesis) if several and self.hypothesis else ()
        try:
            share = 100 * Scope(self.scope, self.resampled).resampled() if self.scope else None
        except ScrubError:  # a baseline that doesn't only resample
            share = None
        return Claim(parts or (self.part,), share)

    def _scrubbed_parts(self, of: Hypothesis) -> tuple[str, ...]:
        """List the parts of which something is left in this model."""
        gone = {each.text for each in self.left_out.unmatched if not each.alternative and each.kind == "rule"}
        return tuple(part for part, rules in of.parts.items() if part != ALL and not gone.issuperset(map(str, rules)))

    @property
    def part(self) -> str:
        """The part of its hypothesis that it is; empty for an anchor or intervention."""
        return self.name.part

    @cached_property
    def draws(self) -> frozenset[Draw]:
        """The sources of sequences that feed it."""
        return draws(self.graph)


def build(
    name: Name,
    of: Cut,
    rules: Sequence[Rule] = (),
    hypothesis: Hypothesis | None = None,
    baseline: Sequence[Rule] = (),
    mean: Held | None = None,
    kept: Set[Edge] | None = None,
) -> Experiment:
    """Build an experiment from a model that was cut for some rules, and for its baseline's, and those.

    Instead of rules it may have the edges that are `kept`. With a `mean`, that stands where they feed y. Raises
    ScrubError for a draw beside that which it is of.
    """
    read = of.rules(rules)
    check_nested(of.graph, read)
    whole = None if kept is None else connected(kept)
    if kept is not None and whole is not None:
        graph, nowhere = keep(of.graph, kept), len(kept) - len(whole)
        idle = (f"{nowhere:,} of {len(kept):,} edges lie on no whole path, so they change nothing",) if nowhere else ()
    else:
        (read, graph), idle = resample_anywhere(of.graph, read) if read else (read, of.graph), ()
    made = Experiment(name, of.graph, read, graph, hypothesis, of.warnings + idle, of.rules(baseline), kept=whole)
    return made if mean is None else replace(made, graph=with_means(graph, mean), drawn=graph)


@dataclass(frozen=True)
class Experiments:
    """The unscrubbed model, and what is done to it: `scrubbed` are anchors, parts of hypotheses, or interventions."""

    unscrubbed: Experiment
    scrubbed: tuple[Experiment, ...]

    def __iter__(self) -> Iterator[Experiment]:
        yield self.unscrubbed
        yield from self.scrubbed

    def __len__(self) -> int:
        return 1 + len(self.scrubbed)

    @property
    def names(self) -> list[Name]:
        """The name of each, the unscrubbed model's first."""
        return [experiment.name for experiment in self]

    @property
    def draws(self) -> set[Draw]:
        """The sources of sequences that feed any of them."""
        return set().union(*(experiment.draws for experiment in self))

    @property
    def drawn(self) -> set[Draw]:
        """The sources of sequences that feed any of them, or that a mean is over."""
        over = (held_by(leaf).over for leaf in held(each.graph for each in self))
        return self.draws | {draw for draw in over if draw is not None}

    def only(self, names: Collection[str]) -> Experiments:
        """Keep the unscrubbed model and the experiments of these names."""
        return replace(self, scrubbed=tuple(experiment for experiment in self.scrubbed if experiment.name in names))

    def hashes(self, classes: Mapping[str, str]) -> list[str]:
        """Hash what each computes, however layers are cut and split, but for splits by positions, which stay.

        What they share is looked at once. See :func:`scrub.paths.hashes.hash_graphs`.
        """
        from scrub.paths.hashes import hash_graphs  # not before: torch takes seconds, and mistakes are told without it
        from scrub.plan.plan import canonical

        return hash_graphs(canonical([each.graph for each in self]), classes)

    def outputs(self, metrics: Sequence[Metric]) -> dict[str, Node]:
        """Name the nodes that measure them: METRIC:EXPERIMENT, experiment by experiment."""
        reference = self.unscrubbed.graph
        return {f"{metric.name}:{e.name}": metric.measure(e.graph, reference) for e in self for metric in metrics}


@uncollected()
def experiments(
    study: Study, hypotheses: Sequence[Hypothesis], model: Node, roles: Roles, parts: Sequence[str] | None = None
) -> Experiments:
    """Build the anchors and every part of every hypothesis, in order.

    Raises ScrubError for a rule or split that matches nothing, or a part that no hypothesis has.
    """
    made = anchors(study, model, roles)
    check_parts(hypotheses, parts)
    more = [part for hypothesis in hypotheses for part in parts_of(study, hypothesis, model, roles, parts)]
    return replace(made, scrubbed=(*made.scrubbed, *more))


def graphs_alike(
    study: Study,
    hypotheses: Sequence[Hypothesis],
    model: Node,
    roles: Roles,
    parts: Sequence[str] | None = None,
    elsewhere: Elsewhere = MappingProxyType({}),
) -> dict[str, Node]:
    """Build the graph of every experiment of some hypotheses, heads told apart in each where any of them does.

    So two graphs differ in what their hypotheses say, and not in how finely that made them cut a layer.
    Raises ScrubError as :func:`experiments` does.
    """
    words = list(dict.fromkeys(word for hypothesis in hypotheses for word in hypothesis.words(model)))
    built = [
        part
        for each in hypotheses
        for part in parts_of(study, each, model, roles, parts, words, elsewhere.get(each.name, ()))
    ]
    return {experiment.name: experiment.resampled for experiment in built}


def anchors(study: Study, model: Node, roles: Roles) -> Experiments:
    """Build the unscrubbed model, the baseline, and the model with everything scrubbed. Raises ScrubError as above."""
    try:
        found = cut(model, roles, study.baseline_rules)
        baseline = build(BASELINE, found, study.baseline_rules, mean=study.mean)
    except ScrubError as error:
        raise ScrubError(f"{BASELINE} of the study {study.name!r}: {error}{_unknown(study, roles, error)}") from error
    if baseline.graph is found.graph:
        raise ScrubError("the baseline is the unscrubbed model: 0 % and 100 % must differ, so resample something in it")
    whole = Cut(model)
    everything = build(ALL_SCRUBBED, whole, (Rule.parse("** -> y"),), mean=study.mean)
    return Experiments(build(UNSCRUBBED, whole), (baseline, everything))


def parts_of(
    study: Study,
    hypothesis: Hypothesis,
    model: Node,
    roles: Roles,
    parts: Sequence[str] | None = None,
    also: Sequence[Pattern] = (),
    elsewhere: Collection[Unmatched] = (),
) -> list[Experiment]:
    """Build every part of a hypothesis, or those of some that it has; `also` are patterns that tell heads apart too.

    What matches `elsewhere`, on another of several models, and nothing here, is left out. So are parts of which nothing
    is left then. Raises ScrubError as above, and where no part is left.
    """
    try:
        baseline = study.baseline_rules
        found = hypothesis.cut(model, roles, [*(rule.pattern for rule in baseline), *also], elsewhere)
        kept = read_edges(hypothesis.edges, found, elsewhere) if hypothesis.edges else None
        rules = {
            part: [rule for rule in of_part if Unmatched("rule", str(rule)) not in found.unmatched]
            for part, of_part in hypothesis.parts.items()
            if parts is None or part in parts
        }
        made = [
            build(Name(hypothesis.name, part), found, own, hypothesis, baseline, study.mean, kept)
            for part, own in rules.items()
        ]
        return _but_left_out(made, found, baseline) if found.unmatched else made
    except ScrubError as error:
        raise ScrubError(f"{hypothesis.path or hypothesis.name}: {error}{_unknown(study, roles, error)}") from error


def _but_left_out(made: Sequence[Experiment], of: Cut, baseline: Sequence[Rule]) -> list[Experiment]:
    """Say of the parts of a hypothesis what was left out, and drop those of which nothing is left.

    Raises ScrubError where nothing is left of any.
    """
    hypothesis = made[0].hypothesis if made else None
    if hypothesis is None:
        return []
    of_rule = {part: {str(rule) for rule in rules} for part, rules in hypothesis.parts.items()}
    unmatched = tuple(
        replace(each, parts=tuple(part for part in of_rule if each.kind == "edge" or each.text in of_rule[part]))
        for each in of.unmatched
    )
    whole = resample(of.graph, of.rules(baseline))
    said = LeftOut(unmatched)
    gone = {each.part: why for each in made if said.of(each.part) and (why := _nothing_left(each, whole))}
    if len(gone) == len(made):
        (first, *_) = said.of(made[-1].part)
        raise ScrubError(f"{gone[made[-1].part]}; {first} is left out: {first.why}")
    said = replace(said, parts=gone)
    return [replace(each, left_out=said) for each in made if each.part not in gone]


def _nothing_left(of: Experiment, baseline: Node) -> str:
    """Say why nothing is left to measure of an experiment some of whose rules were left out; nothing where there is."""
    if not of.rules and not of.kept:
        return f"none of its {'rules matches anything' if of.kept is None else 'edges is'} in this model"
    return "what is left of it in this model is the baseline" if of.resampled is baseline else ""


def check_parts(hypotheses: Sequence[Hypothesis], parts: Sequence[str] | None) -> None:
    """Raise ScrubError for a part that no hypothesis has."""
    known = dict.fromkeys(part for h in hypotheses for part in h.parts)
    for part in parts or ():
        if part not in known:
            raise ScrubError(f"no hypothesis has a part {part!r}: they have {', '.join(known)}")


def _unknown(study: Study, roles: Roles, error: ScrubError) -> str:
    """Say what a mistake may come from where the study, or the model, has no roles for the model's heads.

    Of what names no role that says nothing.
    """
    wrong = str(error).partition(": ")[0]
    words = [word for found in _BEHIND_A_LAYER.findall(wrong) for word in found.strip("{}").split(",")]
    if not any(map(_LETTER.search, words)):
        return ""
    if study.roles and roles not in study.roles.values():
        named = few([short(name, quoted=False) for name in study.roles])
        return f"; the study gives roles to heads of {named}: name this model's there too, in Study(roles=...)"
    if study.roles and not roles:
        return "; the study gives this model's heads no roles, and these are in place of its config's: name them there"
    told = "this model's heads have no roles yet: `scrub roles MODEL --write` measures them"
    return "" if roles else f"; {told} (of a model in one file: save it as a folder first, with scrub.save_model)"
