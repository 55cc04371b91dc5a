"""Sites of interventions, written as the end of a path.

`a1.3` is a head, `a1` a layer of heads, `m0` an MLP, `emb` the embedding; `a1.3/k` a slot; `a1.3/k/a0.1` an edge, from
what writes (the last step) into what reads; `stream 2` the residual stream that enters layer 2, as all that is read
from there on of what is written before it. `@4..7` behind any of them means only at those positions; they may count
from the end or have names (`@-1`, `@end`, `@S2+1`). A site is meant on
every path that ends there, whatever reads it further on; several are joined by `+`.

Position embeddings that are added to the residual stream, and the biases of attention's output, belong to no component:
no site has them. Where a norm stands behind a layer, it reads the sum of the layer's heads: a head's site is its own
output, in front of that norm. So a residual stream is fed there component by component, in front of those norms: at
zero, what is left of a layer is what its norm makes of the bias alone, and at a mean it isn't held, since a norm of
means is no mean.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from scrub.graph.node import Node, walk
from scrub.paths.cut import meant
from scrub.paths.foreign import check_foreign
from scrub.paths.locate import below
from scrub.paths.pattern import INPUTS, Pattern
from scrub.paths.roles import Roles
from scrub.paths.splits import Split, attention_heads
from scrub.text.errors import ScrubError
from scrub.text.spans import places
from scrub.text.wording import few

STREAM = "stream "
Part = tuple[int, int] | str
_JOINED = re.compile(r"\+(?=\s*(?:[am]\d|emb|stream))")  # else + joins heads of a layer, as in a1.3+4
_SWEEP = re.compile(r"^(heads|layers|attention|mlps|streams)$|/\*$")


@dataclass(frozen=True)
class Site:
    """One place of a model: the steps of its path, and the positions if it isn't all of them."""

    text: str
    steps: tuple[str, ...]
    written: tuple[str, ...] = ()  # of a residual stream: the components that it is the sum of
    readers: tuple[str, ...] = ()  # and those that read it, besides the output
    positions: str | None = None
    parts: tuple[frozenset[Part], ...] = ()  # what each step but slots means: heads as (layer, head), or a component

    @property
    def inner(self) -> list[Pattern]:
        """The patterns of the site at all positions: on every path that it is the end of."""
        written = _alternatives(self.written)
        if not self.written:
            return [Pattern("/".join(["**", *self.steps]))]
        heads, mlps = ([label for label in self.readers if label[0] == kind] for kind in "am")
        texts = [written]
        texts += [f"**/{_alternatives(heads)}/{{q,k,v}}/{written}"] if heads else []
        texts += [f"**/{_alternatives(mlps)}/{written}"] if mlps else []
        return [Pattern(text) for text in texts]

    @property
    def patterns(self) -> list[Pattern]:
        """The patterns of the site, once it is split."""
        return self.inner if self.positions is None else [Pattern(f"{site}[{self.positions}]") for site in self.inner]

    @property
    def splits(self) -> list[Split]:
        """The splits that tell its positions apart."""
        return [] if self.positions is None else [Split(site, "positions", (self.positions,)) for site in self.inner]

    @property
    def attention(self) -> Pattern:
        """The pattern of the slots that make the attention pattern of heads or a layer, where those are split too."""
        steps = Pattern(self.steps[-1]).alternatives[0]
        return Pattern(f"**/{_alternatives([*steps, *(f'{step}[*]' for step in steps)])}/{{q,k}}")

    @property
    def heads(self) -> set[tuple[int, int]]:
        """The heads that its last component is, as (layer, head)."""
        return {part for part in self.parts[-1] if isinstance(part, tuple)} if self.parts else set()


def components(graph: Node) -> list[str]:
    """List what writes into the residual stream of an unsplit model, in order: emb, a0, m0, a1, ..."""
    return [str(component.label) for component in below(graph)]


def heads(graph: Node) -> list[str]:
    """List every head of an unsplit model, as a site."""
    return [f"a{layer}.{head}" for layer, of in sorted(attention_heads(graph).items()) for head in of]


def streams(graph: Node) -> list[str]:
    """List the residual stream in front of every layer of an unsplit model, and the final one."""
    return [f"{STREAM}{layer}" for layer in range(len(attention_heads(graph)) + 1)]


def sweep(what: str, graph: Node) -> list[str]:
    """List the sites of a sweep over an unsplit model, by its name, or of `a1.3/k/*`, all edges into a slot or MLP.

    Heads are edges one by one. Raises ScrubError if there is no such sweep of the model.
    """
    written = components(graph)
    kinds = {
        "heads": heads(graph),
        "layers": written[1:],
        "attention": [label for label in written if label[0] == "a"],
        "mlps": [label for label in written if label[0] == "m"],
        "streams": streams(graph),
    }
    reader, star, rest = what.rpartition("/*")
    if star and not rest:
        layer = reader.partition("/")[0].partition(".")[0]
        if layer not in written[1:] or reader.endswith(("/q", "/k", "/v")) != (layer[0] == "a"):
            raise ScrubError(f"{what!r} is no sweep over edges: write a1.3/k/* for those into a slot, m1/* into an MLP")
        before = _read_by(layer, graph)
        of = [f"{reader}/{site}" for site in heads(graph) if site.partition(".")[0] in before]
        return [f"{reader}/{label}" for label in before if label[0] != "a"] + of
    if not kinds.get(what):
        known = ", ".join(repr(kind) for kind, sites in kinds.items() if sites)
        raise ScrubError(f"there is no sweep over {what!r} here: there are {known}, and edges as in 'a1.3/k/*'")
    return kinds[what]


def _read_by(component: str, graph: Node) -> list[str]:
    """List the components that a layer or an MLP reads, in order: an MLP in parallel to its layer's heads not those."""
    (node,) = (each for each in walk([graph]) if each.label == component)
    read = {child for each in below(node) for child in (below(each) if each.label in INPUTS else [each])}
    return [label for label in components(graph) if label in {each.label for each in read}]


def expanded(what: str | Sequence[str], graph: Node) -> list[str]:
    """List the texts of sites, one for each experiment: whatever names a sweep gives all of its sites.

    Raises ScrubError if there is none, or as :func:`sweep` does.
    """
    asked = [what] if isinstance(what, str) else list(what)
    sites = [site for text in asked for site in (sweep(text, graph) if _SWEEP.search(text) else [text])]
    if not sites or not all(site.strip() for site in sites):
        raise ScrubError("no site is named: name some, as in a1.3, or 'heads'")
    return list(dict.fromkeys(sites))


def read_sites(text: str, graph: Node, roles: Roles, positions: str | None = None) -> list[Site]:
    """Read the sites of a text, at some positions if it names none itself.

    Raises ScrubError for what is no site of the model (`graph` is unsplit), or sites that can't be told apart.
    """
    if positions is not None:
        places(positions)
    for part in _JOINED.split(text):
        check_foreign(part)
    sites = [_site(part.strip(), graph, roles, positions) for part in _JOINED.split(text)]
    for site in sites:
        if site.positions is not None and (same := next((e for e in sites if _overlap(site, e)), None)):
            raise ScrubError(
                f"{site.text!r} and {same.text!r} can't be told apart in one experiment: name positions of the same "
                "component together, as in a1.3@4,7..9, or make an experiment of each"
            )
    return sites


def _overlap(site: Site, other: Site) -> bool:
    """Tell whether what is split of a site by positions stands in the other too."""
    if site is other:
        return False
    return bool(site.written or other.written) or any(site.parts[-1] & part for part in other.parts)


def _site(text: str, graph: Node, roles: Roles, everywhere: str | None) -> Site:
    where, at, positions = (part.strip() for part in text.partition("@"))
    if at:
        places(positions)
    site = Site(text, tuple(where.split("/")), positions=re.sub(r"\s", "", positions) if at else everywhere)
    written = components(graph)
    if where.startswith(STREAM.strip()):
        before = _before(where, text, graph, written)
        return replace(site, steps=(), written=before, readers=tuple(written[len(before) :]))
    parts = []
    for place, step in enumerate(site.steps):
        if step in INPUTS and place > 0 and site.steps[place - 1].startswith("a"):
            continue
        alternatives = Pattern(step or " ").alternatives[0]
        parts.append(frozenset[Part]().union(*(_means(text, each, graph, roles) for each in alternatives)))
    return replace(site, parts=tuple(parts))


def _means(text: str, step: str, graph: Node, roles: Roles) -> set[Part]:
    """Find the heads or the component that one step of a site means. Raises ScrubError if it is neither."""
    heads: set[Part] = {(layer, head) for layer, of in meant(step, graph, roles).items() for head in of}
    written = components(graph)
    if not heads and step not in written:
        heads_of = [f"a{layer}.0 to a{layer}.{max(of)}" for layer, of in sorted(attention_heads(graph).items())]
        raise ScrubError(
            f"{text!r} is no site of this model: {step!r} is none of {', '.join(written)}, nor one of the heads "
            f"{few(heads_of)}; write a1.3, a1.3/k (slot), a1.3/k/a0.1 (edge) or 'stream 1'"
        )
    return heads or {step}


def _before(where: str, text: str, graph: Node, written: Sequence[str]) -> tuple[str, ...]:
    """List the components that are written before a layer."""
    layers, number = len(attention_heads(graph)), where.removeprefix(STREAM).strip()
    if not (number.isdecimal() and len(number) < 5 and int(number) <= layers):
        raise ScrubError(
            f"{text!r} is no site of this model: the residual stream is 'stream 0' (the embedding) to "
            f"'stream {layers}' (the final one)"
        )
    return tuple(written[: written.index(f"a{int(number)}")] if int(number) < layers else written)


def _alternatives(steps: Sequence[str]) -> str:
    """Write a pattern of one step for any of these."""
    return steps[0] if len(steps) == 1 else "{" + ",".join(steps) + "}"
