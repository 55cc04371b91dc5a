"""The shape of a graph of edges in EAP-IG's and MIB's layout: its nodes and edges, their names, and their order.

There `a0.h1->a1.h3<k>` is our `a1.3/k/a0.1`, `input` our `emb` and `logits` our `out`. Every layer has as many heads,
and an MLP, which reads the heads of its own layer unless the two are parallel.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Int

from scrub.models.model import Model
from scrub.paths.edges import OUT, Edge, by_head, edges_of
from scrub.paths.foreign import EAP_EDGE, EAP_INPUT, EAP_LOGITS
from scrub.paths.pattern import SLOTS
from scrub.text.errors import ScrubError
from scrub.text.wording import few, short

MOST_EDGES = 5_000_000  # Gemma 2 27B has 3.4 million; a graph of more takes over 4 GB as Python's objects
FIELDS = ("n_layers", "n_heads", "parallel_attn_mlp", "d_model")  # of a file's cfg, in EAP-IG's order
_LAST = 10**9  # behind all layers
_HEAD, _MLP = re.compile(r"a(\d+)\.(\d+)"), re.compile(r"m(\d+)")


@dataclass(frozen=True)
class Shape:
    """The sizes of a model that say which edges it has, as the `cfg` of a file does."""

    n_layers: int
    n_heads: int
    d_model: int
    parallel_attn_mlp: bool = False

    def __str__(self) -> str:
        parallel = ", MLPs in parallel to attention" if self.parallel_attn_mlp else ""
        return f"{self.n_layers} layers of {self.n_heads} heads, d_model {self.d_model}{parallel}"

    @classmethod
    def of(cls, model: Model) -> Shape:
        """Find the shape of a model, the most heads where layers differ: `Shape.of(model)`."""
        every = edges_of(by_head(model.graph).graph)
        layers = [int(m[1]) for edge in every for m in [_HEAD.match(edge.reader) or _MLP.match(edge.reader)] if m]
        mlps = {edge.reader for edge in every if _MLP.fullmatch(edge.reader)}
        own = {edge.reader for edge in every if edge.reader in mlps and edge.sender.startswith(f"a{edge.reader[1:]}.")}
        d_model = int(getattr(model.config, "d_model", 0))
        return cls(max(layers, default=-1) + 1, max(model.heads.values(), default=0), d_model, bool(mlps - own))

    @classmethod
    def read(cls, cfg: object, where: str) -> Shape:
        """Read the cfg of a file. Raises ScrubError, before any memory is taken, for one that is no model's."""
        if not isinstance(cfg, Mapping):
            raise ScrubError(f"{where} has a 'cfg' that is {short(cfg)}: expected an object with {', '.join(FIELDS)}")
        for name in FIELDS:
            value, parallel = cfg.get(name), name == "parallel_attn_mlp"
            if name not in cfg:
                raise ScrubError(f"{where} says no {name!r} in its cfg: take a file as EAP-IG writes it")
            if isinstance(value, bool) != parallel or not (parallel or (isinstance(value, int) and value > 0)):
                expected = "true or false" if parallel else "a whole number above 0"
                raise ScrubError(f"{where} says {name} {short(value)} in its cfg: expected {expected}")
        shape = cls(cfg["n_layers"], cfg["n_heads"], cfg["d_model"], cfg["parallel_attn_mlp"])
        if shape.count > MOST_EDGES:
            raise ScrubError(
                f"{where} has a cfg of {short(shape.n_layers)} layers of {short(shape.n_heads)} heads, which have more "
                f"than {MOST_EDGES:,} edges, the most that are read: its cfg is wrong, or the model too large"
            )
        return shape

    @property
    def cfg(self) -> dict[str, object]:
        """What a file says of it."""
        return {name: getattr(self, name) for name in FIELDS}

    @property
    def count(self) -> int:
        """The number of its edges; none of them is made for that."""
        layers, heads = self.n_layers, self.n_heads
        before = layers + (heads + 1) * layers * (layers - 1) // 2  # senders before each layer, summed over layers
        own = 0 if self.parallel_attn_mlp else layers * heads
        return before * (3 * heads + 1) + own + 1 + layers * (heads + 1)

    @property
    def senders(self) -> tuple[str, ...]:
        """What writes, in EAP-IG's order: emb, the heads of layer 0, m0, ..."""
        layers = (
            name for at in range(self.n_layers) for name in (*(f"a{at}.{h}" for h in range(self.n_heads)), f"m{at}")
        )
        return ("emb", *layers)

    @property
    def readers(self) -> tuple[str, ...]:
        """What reads, in EAP-IG's order: the q of layer 0's heads, their k, their v, m0, ..., out."""
        found: list[str] = []
        for at in range(self.n_layers):
            found += [f"a{at}.{head}/{slot}" for slot in SLOTS for head in range(self.n_heads)]
            found.append(f"m{at}")
        return (*found, OUT)

    @property
    def edges(self) -> tuple[Edge, ...]:
        """All of its edges, in the order of EAP-IG's files."""
        return _edges(self)

    @property
    def names(self) -> list[str]:
        """The names of its edges in such a file, in its order."""
        senders = {name: f"{node_name(name)}->" for name in self.senders}
        readers = {name: reader_name(name) for name in self.readers}
        return [senders[sender] + readers[reader] for reader, sender in self.edges]

    @property
    def cells(self) -> tuple[Int[np.ndarray, " edge"], Int[np.ndarray, " edge"]]:
        """Where each edge is in a matrix [sender, reader]."""
        return places(self.edges, self.senders, self.readers)


def places(
    edges: Sequence[Edge], senders: Sequence[str], readers: Sequence[str]
) -> tuple[Int[np.ndarray, " edge"], Int[np.ndarray, " edge"]]:
    """Find which sender and which reader each edge has: `places(shape.edges, shape.senders, shape.readers)`."""
    row, column = ({name: at for at, name in enumerate(names)} for names in (senders, readers))
    rows = np.fromiter((row[edge.sender] for edge in edges), np.int64, len(edges))
    return rows, np.fromiter((column[edge.reader] for edge in edges), np.int64, len(edges))


@lru_cache(maxsize=2)
def _edges(shape: Shape) -> tuple[Edge, ...]:
    found, stream = list[Edge](), ["emb"]
    for at in range(shape.n_layers):
        heads = [f"a{at}.{head}" for head in range(shape.n_heads)]
        slots = [f"{head}/{slot}" for head in heads for slot in SLOTS]
        mlp = f"m{at}"
        if shape.parallel_attn_mlp:
            found += [Edge(reader, sender) for sender in stream for reader in (*slots, mlp)]
            stream += heads
        else:
            found += [Edge(reader, sender) for sender in stream for reader in slots]
            stream += heads
            found += [Edge(mlp, sender) for sender in stream]
        stream.append(mlp)
    found += [Edge(OUT, sender) for sender in stream]
    return tuple(found)


def in_order(edges: Iterable[Edge], parallel: bool) -> tuple[Edge, ...]:
    """Order the edges of any model as EAP-IG does those of its shapes: `in_order(edges_of(graph), False)`."""
    return tuple(sorted(edges, key=lambda edge: _place(edge, parallel)))


def _place(edge: Edge, parallel: bool) -> tuple[int, int, tuple[int, int, int], int, int]:
    component, _, slot = edge.reader.partition("/")
    layer, is_mlp, head = rank(component)
    apart = 0 if parallel or component == OUT else is_mlp  # parallel MLPs are among the readers of each sender
    return layer, apart, rank(edge.sender), head, SLOTS.index(slot) if slot else -1


def rank(component: str) -> tuple[int, int, int]:
    """Order components as the residual stream does: emb, the heads of layer 0, m0, ..., out. By (layer, MLP, head)."""
    if found := _HEAD.fullmatch(component):
        return int(found[1]), 0, int(found[2])
    if found := _MLP.fullmatch(component):
        return int(found[1]), 1, _LAST
    return (_LAST, 0, 0) if component == OUT else (-1, 0, 0)


def reader_rank(reader: str) -> tuple[int, int, int, int]:
    """Order readers as the columns of EAP-IG's matrix: the q of a layer's heads, their k, their v, its MLP, out."""
    component, _, slot = reader.partition("/")
    layer, is_mlp, head = rank(component)
    return layer, is_mlp, SLOTS.index(slot) if slot else -1, head


def node_name(component: str) -> str:
    """Name a component as EAP-IG does: `node_name("a0.1")` is "a0.h1"."""
    known = {"emb": EAP_INPUT, OUT: EAP_LOGITS}
    return known.get(component) or component.replace(".", ".h")


def reader_name(reader: str) -> str:
    """Name what reads as EAP-IG does: `reader_name("a1.3/k")` is "a1.h3<k>"."""
    component, _, slot = reader.partition("/")
    return node_name(component) + (f"<{slot}>" if slot else "")


def why_no_edge(name: object, shape: Shape) -> str:
    """Say why a name is no edge of a model of this shape: `why_no_edge("m1->m0", shape)`."""
    found = EAP_EDGE.fullmatch(name) if isinstance(name, str) else None
    if found is None:
        return "which is no name of an edge: expected one like a0.h1->a1.h3<k>, a0.h1->m0 or m0->logits"
    sender, reader, slot = found.groups()
    nodes = {*map(node_name, shape.senders), EAP_LOGITS}
    if missing := [node for node in (sender, reader) if node not in nodes]:
        return f"but a model of its cfg has no {missing[0]}"
    if reader.startswith("a") and not slot:
        return f"which doesn't say what of {reader} reads: write {sender}->{reader}<q>, <k> or <v>"
    if slot and not reader.startswith("a"):
        return f"but {reader} has no {slot}: write {sender}->{reader}"
    return (
        f"but {reader} comes before {sender}, or at its side, and can't read it: what is read lies below what reads it"
    )


def some_names(edges: Iterable[Edge]) -> str:
    """List the first of some edges as files name them."""
    return few([f"{node_name(edge.sender)}->{reader_name(edge.reader)}" for edge in edges])
