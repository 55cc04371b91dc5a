"""Sites: where an intervention is made, written as the end of a path.

`a1.3` is a head, `a1` a layer of heads, `m0` an MLP, `emb` the embedding; `a1.3/k` a slot; `a1.3/k/a0.1` an edge, from
what writes (the last step) into what reads; `stream 2` the residual stream that enters layer 2, which is everything
that is written before it. `@4..7` behind any of them means only at those positions. A site is meant on every path that
ends there, whatever reads it further on; several are joined by `+`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from scrub.checkpoints.checks import attention_heads
from scrub.errors import ScrubError
from scrub.graph.masks import spans
from scrub.graph.node import Node
from scrub.paths.locate import below
from scrub.paths.splits import Roles

STREAM = "stream "
_SLOTS = {"q", "k", "v"}


@dataclass(frozen=True)
class Site:
    """One place of a model: the steps of its path, and the positions if it isn't all of them."""

    text: str
    steps: tuple[str, ...]
    written: tuple[str, ...] = ()  # of a residual stream: the components that it is the sum of
    positions: str | None = None

    @property
    def inner(self) -> str:
        """The pattern of the site at all positions, on every path that it is the end of."""
        steps = (_alternatives([step]) for step in self.steps)
        return "/".join(["**", *([_alternatives(self.written)] if self.written else steps)])

    @property
    def pattern(self) -> str:
        """The pattern of the site, once it is split."""
        return self.inner if self.positions is None else f"{self.inner}[{self.positions}]"

    @property
    def split(self) -> str | None:
        """The split that tells its positions apart."""
        return None if self.positions is None else f"{self.inner} by positions {self.positions}"

    @property
    def groups(self) -> list[tuple[str, str]]:
        """The (layer, heads) that it has to be told apart by: ("a1", "3")."""
        named = (re.fullmatch(r"(a\d+)\.(.+)", step) for step in self.steps)
        return [(found[1], found[2]) for found in named if found]


def components(graph: Node) -> list[str]:
    """What writes into the residual stream of an unsplit model, in order: emb, a0, m0, a1, ..."""
    return [str(each.label) for each in below(graph)]


def heads(graph: Node) -> list[str]:
    """Every head of an unsplit model, as a site."""
    return [f"a{layer}.{head}" for layer, found in sorted(attention_heads(graph).items()) for head in found]


def streams(graph: Node) -> list[str]:
    """The residual stream in front of every layer of an unsplit model, and the final one."""
    return [f"{STREAM}{layer}" for layer in range(len(attention_heads(graph)) + 1)]


def read_sites(text: str, graph: Node, roles: Roles, positions: str | None = None) -> list[Site]:
    """The sites of a text, at some positions if it names none itself.

    Raises ScrubError for what is no site of the model: `graph` is unsplit.
    """
    return [_site(part.strip(), graph, roles, positions) for part in text.split("+")]


def splits_of(sites: Iterable[Site]) -> list[str]:
    """The splits that tell these sites apart from the rest of the model."""
    groups: dict[str, dict[str, None]] = {}
    for site in sites:
        for layer, name in site.groups:
            groups.setdefault(layer, {})[name] = None
    found = [f"**/{layer} by heads {' '.join(names)}" for layer, names in groups.items()]
    return found + list(dict.fromkeys(site.split for site in sites if site.split))


def _site(text: str, graph: Node, roles: Roles, everywhere: str | None) -> Site:
    where, at, positions = (part.strip() for part in text.partition("@"))
    if at:
        spans(positions)
    site = Site(text, tuple(where.split("/")), positions=re.sub(r"\s", "", positions) if at else everywhere)
    written = components(graph)
    if where.startswith(STREAM.strip()):
        return replace(site, steps=(), written=_before(where, text, graph, written))
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
    """The components that are written before a layer."""
    layers, number = len(attention_heads(graph)), where.removeprefix(STREAM).strip()
    if not (number.isdecimal() and len(number) < 5 and int(number) <= layers):
        raise ScrubError(
            f"{text!r} is no site of this model: the residual stream is 'stream 0' (the embedding) to "
            f"'stream {layers}' (the final one)"
        )
    return tuple(written[: written.index(f"a{int(number)}")] if int(number) < layers else written)


def _alternatives(steps: Sequence[str]) -> str:
    """A pattern of one step for any of these; a whole layer is also any group of its heads."""
    texts = [text for step in steps for text in ([step, f"{step}.*"] if re.fullmatch(r"a\d+", step) else [step])]
    return texts[0] if len(texts) == 1 else "{" + ",".join(texts) + "}"
