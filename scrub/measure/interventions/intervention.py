"""Interventions: splits and rules, made from sites and what is done there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from scrub.graph.node import Node
from scrub.graph.stream import streams_of, terms_of
from scrub.paths.cut import cut
from scrub.paths.pattern import Pattern
from scrub.paths.roles import Roles
from scrub.paths.rules import Rule
from scrub.paths.sites import Site, components, read_sites
from scrub.paths.sources import Mean, Source, Y, Zero
from scrub.paths.splits import Split, attention_heads
from scrub.study.experiments import Experiment, Name, build
from scrub.text.errors import ScrubError

SOURCES: Mapping[str, Source] = {"zero": Zero(), "mean": Mean(), "resample": Y}


@dataclass(frozen=True)
class Intervention:
    """One experiment on a model: its splits and rules, as a hypothesis writes them."""

    name: str
    splits: tuple[Split, ...]
    rules: tuple[Rule, ...]

    def experiment(self, graph: Node, roles: Roles) -> Experiment:
        """Build the experiment. Raises ScrubError for a split or rule that matches nothing."""
        try:
            return build(Name(self.name), cut(graph, roles, self.rules, self.splits, generated=True), self.rules)
        except ScrubError as error:
            raise ScrubError(f"{self.name}: {error}") from error


def feed(name: str, sites: Sequence[Site], source: Source) -> Intervention:
    """Feed sites by a source: `feed("a1.3", read_sites("a1.3", graph, roles), Zero())`."""
    rules = tuple(Rule(pattern, source) for site in sites for pattern in site.patterns)
    return Intervention(name, tuple(dict.fromkeys(split for site in sites for split in site.splits)), rules)


def source_of(how: str) -> Source:
    """Find what stands for what is ablated in a way. Raises ScrubError for a way that there isn't."""
    if how not in SOURCES and not how.startswith("array "):
        raise ScrubError(f"nothing is ablated by {how!r}: use one of {', '.join(SOURCES)} or 'array NAME'")
    return SOURCES[how] if how in SOURCES else Source.parse(how)


def ablate_sites(
    name: str,
    graph: Node,
    roles: Roles,
    *,
    how: str = "zero",
    sites: str = "",
    attend: Mapping[str, str] | None = None,
    only: bool = False,
    positions: str | None = None,
    within: str | None = None,
) -> Intervention:
    """Ablate sites (`a1.3+m0`), and force the attention of heads to patterns (`{"a0.0": "lag 100"}`).

    With `only`, what is named is what stays: every other head and MLP is ablated instead, and the embedding stays.
    Heads that are named attend as they are told to, also where all of their layer is told another pattern.
    `within` are the positions where something else is ablated at all, where neither a site nor `positions` says more.
    Raises ScrubError for an unknown way to ablate, or what is no site.
    """
    source = source_of(how)
    named = read_sites(sites, graph, roles, positions or (None if only else within)) if sites else []
    forced = [(site, by) for text, by in (attend or {}).items() for site in read_sites(text, graph, roles)]
    if wrong := [site.text for site, _ in forced if _not_heads(site)]:
        raise ScrubError(f"attention can't be forced at {wrong[0]!r}: name heads, as in a0.0, or a layer, as in a0")
    if how not in SOURCES and (streams := [site.text for site in named if site.written]):
        raise ScrubError(f"{streams[0]!r} is a sum of components, so no one array stands there: name a component")
    if isinstance(source, Mean):
        _check_means(named, graph)
    forced.sort(key=lambda pair: -len(pair[0].heads))  # what is asked of some heads wins over that of their layer
    splits = list(dict.fromkeys(split for site in named for split in site.splits))
    left = _others([*named, *(site for site, _ in forced)], graph) if only else []
    patterns = left if only else [pattern for site in named for pattern in site.patterns]
    if only and within is not None:
        splits = [Split(pattern, "positions", (within,)) for pattern in left]
        patterns = [Pattern(f"{pattern}[{within}]") for pattern in left]
    rules = [Rule(pattern, source) for pattern in patterns]
    rules += [Rule(site.attention, Source.parse(f"attend {by}")) for site, by in forced]
    return Intervention(name, tuple(splits), tuple(rules))


def ablations(
    texts: Sequence[str],
    graph: Node,
    roles: Roles,
    *,
    how: str = "zero",
    attend: Mapping[str, str] | None = None,
    only: bool = False,
    positions: str | None = None,
    within: str | None = None,
) -> list[Intervention]:
    """Make an experiment of each text of sites, as :func:`ablate_sites` does, named by what is ablated, or kept."""
    forced = ", ".join(f"{heads} by {pattern}" for heads, pattern in (attend or {}).items())
    return [
        ablate_sites(
            f"only {text or forced}" if only else text or forced,
            graph,
            roles,
            how=how,
            sites=text,
            attend=attend,
            only=only,
            positions=positions,
            within=within,
        )
        for text in texts
    ]


def _check_means(sites: Sequence[Site], graph: Node) -> None:
    """Raise ScrubError for a residual stream whose mean isn't what the means of its components make."""
    streams = [site for site in sites if site.written]
    behind = {term.node.label for term in terms_of(streams_of(graph)[-1]) if term.norms} if streams else set()
    for site in streams:
        if normed := next((label for label in site.written if label in behind), None):
            raise ScrubError(
                f"{site.text!r} is held at no mean: {normed} is written into it through a norm, and what that makes of "
                "means is no mean; name components, or resample it"
            )


def _not_heads(site: Site) -> bool:
    return len(site.steps) != 1 or not site.steps[0].startswith("a") or site.positions is not None


def _others(kept: Sequence[Site], graph: Node) -> list[Pattern]:
    """Write patterns for every head and MLP but those that are kept."""
    if wrong := [site.text for site in kept if len(site.steps) != 1 or site.positions is not None]:
        raise ScrubError(f"{wrong[0]!r} can't be what alone stays: name heads, layers or MLPs, at all positions")
    heads = {head for site in kept for head in site.heads}
    whole = {"emb", *(site.steps[0] for site in kept)}
    left = [label for label in components(graph) if label not in whole]
    for layer, of in attention_heads(graph).items():
        others = [str(head) for head in of if (layer, head) not in heads]
        if f"a{layer}" in left and len(others) < len(of):
            at = left.index(f"a{layer}")
            left[at : at + 1] = [f"a{layer}.{'+'.join(others)}"] if others else []
    return [Pattern(f"**/{label}") for label in left]
