"""Causal scrubbing by its own definition: a recursion over the nodes of an interpretation, with no code of `scrub`.

What is at a node's path, known to carry the node's feature of the row that it agrees with, is made of one row that
agrees: where it has no children, of that row alone; else of what its children are, each by the same recursion, and
everything else that it reads of one more row. Rows are numbers of a pool; many cases are computed at once.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import layer_norm, relu

Path = tuple[str, ...]  # from the output down, as in ("a1.0", "k", "a0.1[1..2]")
Read = Callable[[Path], Tensor]
Drawn = Mapping[str, np.ndarray]  # by name: a row of the pool for each case, or for each position of each
NEAR = {"current": (0, 0), "previous": (1, 1), "last 3": (0, 2)}  # the lags of masks, both ends among them


@dataclass(frozen=True)
class Carrier:
    """A node of an interpretation: which paths carry which feature, and whose row it agrees with on that.

    `of` is the name of a node above it, or x. `rest` is the name of what is drawn for all that it reads and that no
    child is; where it is its own name, that is its own row.
    """

    name: str
    paths: tuple[Path, ...]
    rest: str
    feature: str = ""
    of: str = "x"
    by_row: bool = False
    children: tuple[Carrier, ...] = ()

    def below(self) -> Iterator[Carrier]:
        """All nodes below it, each before those below that."""
        for child in self.children:
            yield child
            yield from child.below()


@dataclass
class Plain:
    """A decoder of separate heads, with LayerNorms in front, learned positions, and MLPs or none.

    `splits` say for a path what is divided there in two: (positions, "1..2"), or (mask, "previous").
    """

    params: Mapping[str, Tensor]
    layers: int
    heads: int
    mlps: bool
    splits: dict[Path, tuple[str, str]] = field(default_factory=dict)

    def parts(self, path: Path) -> list[Path]:
        if path not in self.splits:
            return [path]
        return [(*path[:-1], f"{path[-1]}[{part}]") for part in (self.splits[path][1], "rest")]

    def reads(self, path: Path) -> list[list[Path]]:
        """What the thing at the end of a path reads: the parts of each slot, or of each term of a stream."""
        last = path[-1].partition("[")[0] if path else "out"
        if last[0] == "a":
            steps = ["q", "k", "v"]
        else:
            steps = [] if last == "emb" else self._before(path[-2] if last in {"q", "k", "v"} else last)
        return [self.parts((*path, step)) for step in steps]

    def _before(self, reader: str) -> list[str]:
        reader = reader.partition("[")[0].partition(".")[0]
        found = ["emb"]
        for layer in range(self.layers):
            for kind, names in (("a", [f"a{layer}.{head}" for head in range(self.heads)]), ("m", [f"m{layer}"])):
                if reader == f"{kind}{layer}":
                    return found
                found += names if kind == "a" or self.mlps else []
        return found

    def at(self, path: Path, read: Read, tokens: Tensor) -> Tensor:
        """What is at the end of a path, where `read` says what is at each that follows; an embedding is of tokens."""
        last, _, part = (path[-1] if path else "out").partition("[")
        kind, of = self.splits.get((*path[:-1], last), ("", "")) if part else ("", "")
        if last == "emb":
            value = self.params["embed.weight"][tokens]
        elif last == "out":
            value = self._normed(path, read, "final_ln") @ self.params["embed.weight"].T
        elif last in {"q", "k", "v"}:
            layer, head = (int(each) for each in path[-2].partition("[")[0][1:].split("."))
            norm = f"layers.{layer}.ln1" if self.mlps else f"layers.{layer}.ln"
            value = self._normed(path, read, norm) @ self.params[f"layers.{layer}.w{last}"][head].T
        elif last[0] == "m":
            p, name = self.params, f"layers.{last[1:]}"
            inside = self._normed(path, read, f"{name}.ln2") @ p[f"{name}.w_in"].T + p[f"{name}.b_in"]
            value = relu(inside) @ p[f"{name}.w_out"].T + p[f"{name}.b_out"]
        else:
            value = self._head(path, read, *map(int, last[1:].split(".")), *((of, part) if kind == "mask" else ()))
        if kind == "positions":
            ends = [int(end) for end in of.split("..")]
            where = torch.arange(value.shape[-2])
            inside = (ends[0] <= where) & (where <= ends[-1])
            value = value * (inside if part != "rest]" else ~inside)[:, None]
        return value

    def _normed(self, path: Path, read: Read, norm: str) -> Tensor:
        parts = self.reads(path)
        x = sum(read(each) for term in parts for each in term)
        assert isinstance(x, Tensor)
        for layer in sorted({term[0][-1][1] for term in parts if term[0][-1][0] == "a"}):
            x = x + self.params[f"layers.{layer}.bo"]
        x = x + self.params["pos.weight"][: x.shape[-2]]
        return layer_norm(x, x.shape[-1:], self.params[f"{norm}.weight"], self.params[f"{norm}.bias"], 1e-5)

    def _head(self, path: Path, read: Read, layer: int, head: int, mask: str = "", part: str = "") -> Tensor:
        q, k, v = (torch.as_tensor(sum(read(each) for each in slot)) for slot in self.reads(path))
        lag = torch.arange(q.shape[-2])[:, None] - torch.arange(q.shape[-2])
        scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
        pattern = scores.masked_fill(lag < 0, -torch.inf).softmax(-1)
        if mask:
            near = (NEAR[mask][0] <= lag) & (lag <= NEAR[mask][1])
            pattern = pattern * (near if part != "rest]" else ~near)
        return pattern @ v @ self.params[f"layers.{layer}.wo"][head].T


class Recursion:
    """Scrubbing on a pool of tokens [row, position], by the classes [row] or [row, position] of each feature."""

    def __init__(self, model: Plain, tokens: np.ndarray, classes: Mapping[str, np.ndarray]) -> None:
        self.model, self.tokens, self.classes = model, torch.from_numpy(tokens), classes
        self._whole: dict[Path, Tensor] = {}

    def logits(self, root: Carrier, drawn: Drawn) -> Tensor:
        """The logits [case, position, vocab] of what is drawn, x too. What doesn't agree as it must fails."""
        return self.model.at((), lambda path: self._read(root, path, drawn), self.tokens)

    def _scrubbed(self, node: Carrier, path: Path, drawn: Drawn) -> Tensor:
        if node.name in drawn:  # one that has no say in anything is not drawn at all
            self.check(node, drawn)
        if not node.children:
            return self.unscrubbed(path, drawn[node.name])
        return self.model.at(path, lambda below: self._read(node, below, drawn), self.tokens)

    def _read(self, node: Carrier, path: Path, drawn: Drawn) -> Tensor:
        """What a node finds at a path that it reads: a child, something on the way to one, or anything else."""
        for child in node.children:
            if path in child.paths:
                return self._scrubbed(child, path, drawn)
        if any(path == each[: len(path)] for child in node.children for each in child.paths):
            return self.model.at(path, lambda below: self._read(node, below, drawn), self.tokens)
        return self.unscrubbed(path, drawn[node.rest])

    def unscrubbed(self, path: Path, rows: np.ndarray) -> Tensor:
        """What is at a path when the model runs on rows, or at each position when it runs on that position's."""
        if path not in self._whole:
            every = np.arange(len(self.tokens))
            self._whole[path] = self.model.at(path, lambda below: self.unscrubbed(below, every), self.tokens)
        return self._whole[path][rows] if rows.ndim == 1 else self._whole[path][rows, np.arange(rows.shape[1])]

    def wanted(self, node: Carrier, drawn: Drawn) -> np.ndarray:
        """The class, or that of each position, that a node's row must be of."""
        classes, above = self.classes[node.feature], drawn[node.of]
        if not node.by_row:
            return classes[above]
        return classes[above if above.ndim > 1 else above[:, None], np.arange(classes.shape[1])]

    def check(self, node: Carrier, drawn: Drawn) -> None:
        if node.feature:
            at = (np.arange(self.tokens.shape[1]),) if node.by_row else ()
            found = self.classes[node.feature][(drawn[node.name], *at)]
            assert np.array_equal(found, self.wanted(node, drawn)), f"{node.name} agrees with {node.of}"

    def ways(
        self, root: Carrier, x: int, others: Sequence[int], asked: Container[str]
    ) -> tuple[dict[str, np.ndarray], np.ndarray]:
        """Every way to draw for one row, and its probability, where nothing is drawn for each position.

        A node's row is any of those that agree with the one above it, itself too, a `rest` any of all; y of `others`.
        Only what is `asked` for is drawn.
        """
        names, found, share = ["x"], [[x]], [1.0]
        for node in (root, *root.below()):
            for name in dict.fromkeys([node.name, node.rest]):
                if name in names or name not in asked:
                    continue
                names, before, found, share = [*names, name], list(zip(found, share, strict=True)), [], []
                for way, chance in before:
                    rows = self._can_be(node, name, dict(zip(names, way, strict=False)), others)
                    found += [[*way, row] for row in rows]
                    share += [chance / len(rows)] * len(rows)
        return dict(zip(names, np.array(found).T, strict=True)), np.array(share)

    def _can_be(self, node: Carrier, name: str, way: Mapping[str, int], others: Sequence[int]) -> Sequence[int]:
        if name == "y":
            return others
        if name != node.name or not node.feature:
            return range(len(self.tokens))
        classes = self.classes[node.feature]
        return [int(row) for row in np.flatnonzero(classes == classes[way[node.of]])]
