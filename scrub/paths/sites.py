"""Sites of interventions, written as the end of a path.

`a1.3` is a head, `a1` a layer of heads, `m0` an MLP, `emb` the embedding; `a1.3/k` a slot; `a1.3/k/a0.1` an edge, from
what writes (the last step) into what reads; `stream 2` the residual stream that enters layer 2, as all that is read
from there on of what is written before it. `@4..7` behind any of them means only at those positions. A site is meant on
every path that ends there, whatever reads it further on; several are joined by `+`.

Position embeddings that are added to the residual stream, and the biases of attention's output, belong to no component:
no site has them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from scrub.graph.masks import spans
from scrub.graph.node import Node
from scrub.paths.locate import below
from scrub.paths.pattern import Pattern
from scrub.paths.splits import Roles, Split, attention_heads
from scrub.text.errors import ScrubError

STREAM = "stream "
_SLOTS = {"q", "k", "v"}
_SWEEP = re.compile(r"^(heads|layers|attention|mlps|streams)$|/\*$")


@dataclass(frozen=True)
class Site:
    """One place of a model: the steps of its path, and the positions if it isn't all of them."""

    text: str
    steps: tuple[str, ...]
    written: tuple[str, ...] = ()  # of a residual stream: the components that it is the sum of
    readers: tuple[str, ...] = ()  # and those that read it, besides the output
    positions: str | None = None

    @property
    def inner(self) -> list[Pattern]:
        """The patterns of the site at all positions: on every path that it is the end of."""
        written = _alternatives(self.written)
        if not self.written:
            return [Pattern("/".join(["**", *(_alternatives([step]) for step in self.steps)]))]
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
        return Pattern(f"**/{_alternatives([*self.steps, f'{self.steps[-1]}[*]'])}/{{q,k}}")

    @property
    def groups(self) -> list[tuple[str, str]]:
        """The (layer, heads) that it has to be told apart by: ("a1", "3")."""
        named = (re.fullmatch(r"(a\d+)\.(.+)", step) for step in self.steps)
        return [(match[1], match[2]) for match in named if match]


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
        before = written[: written.index(layer)]
        of = [f"{reader}/{site}" for site in heads(graph) if site.partition(".")[0] in before]
        return [f"{reader}/{label}" for label in before if label[0] != "a"] + of
    if not kinds.get(what):
        known = ", ".join(repr(kind) for kind, sites in kinds.items() if sites)
        raise ScrubError(f"there is no sweep over {what!r} here: there are {known}, and edges as in 'a1.3/k/*'")
    return kinds[what]


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
        spans(positions)
    sites = [_site(part.strip(), graph, roles, positions) for part in text.split("+")]
    for site in sites:
        if site.positions is not None and (same := next((e for e in sites if _overlap(site, e)), None)):
            raise ScrubError(
                f"{site.text!r} and {same.text!r} can't be told apart in one experiment: name positions of the same "
                "component together, as in a1.3@4,7..9, or make an experiment of each"
            )
    return sites


def splits_of(sites: Iterable[Site]) -> list[Split]:
    """List the splits that tell these sites apart from the rest of the model."""
    groups: dict[str, dict[str, None]] = {}
    for site in sites:
        for layer, name in site.groups:
            groups.setdefault(layer, {})[name] = None
    by_heads = [Split(Pattern(f"**/{layer}"), "heads", tuple(names)) for layer, names in groups.items()]
    return by_heads + list(dict.fromkeys(split for site in sites for split in site.splits))


def _overlap(site: Site, other: Site) -> bool:
    """Tell whether what is split of a site by positions stands in the other too."""
    if site is other:
        return False
    last = next((step for step in reversed(site.steps) if step not in _SLOTS), "")
    steps = {*other.steps, *other.written} - _SLOTS
    return bool(site.written or other.written) or any(_whole(last, e) or _whole(e, last) for e in steps)


def _whole(step: str, part: str) -> bool:
    return step == part or step == part.partition(".")[0]


def _site(text: str, graph: Node, roles: Roles, everywhere: str | None) -> Site:
    where, at, positions = (part.strip() for part in text.partition("@"))
    if at:
        spans(positions)
    site = Site(text, tuple(where.split("/")), positions=re.sub(r"\s", "", positions) if at else everywhere)
    written = components(graph)
    if where.startswith(STREAM.strip()):
        before = _before(where, text, graph, written)
        return replace(site, steps=(), written=before, readers=tuple(written[len(before) :]))
    for place, step in enumerate(site.steps):
        slot = step in _SLOTS and place > 0 and site.steps[place - 1].startswith("a")
        if not slot and not _there(step, graph, roles, written):
            layers = attention_heads(graph)
            raise ScrubError(
                f"{text!r} is no site of this model: {step!r} is none of {', '.join(written)}, nor one of the heads "
                f"a0.0 to a0.{max(layers.get(0, (0,)))}; write a1.3, a1.3/k (slot), a1.3/k/a0.1 (edge) or 'stream 1'"
            )
    return site


def _there(step: str, graph: Node, roles: Roles, written: Sequence[str]) -> bool:
    layer, dot, name = step.partition(".")
    if layer not in written or not dot:
        return step in written
    number = int(layer[1:]) if layer[1:].isdecimal() and layer[0] == "a" else -1
    of_layer = {str(head) for head in attention_heads(graph).get(number, ())}
    return name in of_layer or any(at == number for at, _ in roles.get(name, ()))


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
    """Write a pattern of one step for any of these; a whole layer is also any group of its heads."""
    texts = [text for step in steps for text in ([step, f"{step}.*"] if re.fullmatch(r"a\d+", step) else [step])]
    return texts[0] if len(texts) == 1 else "{" + ",".join(texts) + "}"
