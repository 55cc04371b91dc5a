"""Graphs in EAP-IG's layout, written down from what its README says, and its selection as a few lines on matrices."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from scrub.text.errors import ScrubError

REFERENCE = Path(__file__).parents[4] / "shared/reference/formats/mib_ioi_gpt2_eap-ig.json"


def cells(layers: int, heads: int, parallel: bool = False) -> dict[str, tuple[int, int]]:
    """The row and the column of every edge, by its name, in no order that matters."""
    block, found = 3 * heads + 1, {}
    writers = ["input"]
    for layer in range(layers):
        own = [f"a{layer}.h{head}" for head in range(heads)]
        for slot, letter in enumerate("qkv"):
            for head in range(heads):
                for row, writer in enumerate(writers):
                    found[f"{writer}->a{layer}.h{head}<{letter}>"] = (row, layer * block + slot * heads + head)
        for row, writer in enumerate(writers if parallel else writers + own):
            found[f"{writer}->m{layer}"] = (row, layer * block + 3 * heads)
        writers += [*own, f"m{layer}"]
    for row, writer in enumerate(writers):
        found[f"{writer}->logits"] = (row, layers * block)
    return found


def graph(scores: dict[str, float], kept: Iterable[str], layers: int, heads: int, parallel: bool = False) -> Any:
    """A file's JSON. Nodes are in it where a kept edge goes in, and one out."""
    kept = set(kept)
    into = {name.partition("->")[2].partition("<")[0] for name in kept} | {"input"}
    out = {name.partition("->")[0] for name in kept}
    names = ["input", *(n for at in range(layers) for n in (*(f"a{at}.h{h}" for h in range(heads)), f"m{at}"))]
    return {
        "cfg": {"n_layers": layers, "n_heads": heads, "parallel_attn_mlp": parallel, "d_model": 11},
        "nodes": {name: {"in_graph": name in into & out} for name in names} | {"logits": {"in_graph": True}},
        "edges": {name: {"score": score, "in_graph": name in kept} for name, score in scores.items()},
    }


def random_graph(layers: int = 2, heads: int = 3, parallel: bool = False, seed: int = 0, share: float = 0.5) -> Any:
    """One with float32 scores, of which some edges are kept."""
    generator = np.random.default_rng(seed)
    names = [*cells(layers, heads, parallel)]
    scores = dict(zip(names, generator.normal(size=len(names)).astype("f4").tolist(), strict=True))
    return graph(scores, [name for name in names if generator.random() < share], layers, heads, parallel)


def matrices(data: Any) -> dict[str, Any]:
    """The same as EAP-IG's .pt holds it."""
    cfg, layers, heads = data["cfg"], data["cfg"]["n_layers"], data["cfg"]["n_heads"]
    places = cells(layers, heads, cfg["parallel_attn_mlp"])
    size = (1 + layers * (heads + 1), layers * (3 * heads + 1) + 1)
    scores, kept = torch.zeros(size), torch.zeros(size, dtype=torch.bool)
    for name, entry in data["edges"].items():
        scores[places[name]], kept[places[name]] = entry["score"], entry["in_graph"]
    readers = [
        name
        for at in range(layers)
        for name in (*(f"a{at}.h{head}<{slot}>" for slot in "qkv" for head in range(heads)), f"m{at}")
    ]
    nodes = {name: entry["in_graph"] for name, entry in data["nodes"].items() if name != "logits"}
    return {
        "cfg": dict(cfg), "src_nodes": [*nodes], "dst_nodes": [*readers, "logits"], "edges_scores": scores,
        "edges_in_graph": kept, "nodes_in_graph": torch.tensor([*nodes.values()]),
    }  # fmt: skip


def top(data: Any, n: int, absolute: bool) -> set[str]:
    """The names of the top n of a file: the largest of a float32 matrix, row by row where they are equal."""
    places = cells(data["cfg"]["n_layers"], data["cfg"]["n_heads"], data["cfg"]["parallel_attn_mlp"])
    names = {place: name for name, place in places.items()}
    matrix = torch.full((1 + max(row for row, _ in names), 1 + max(column for _, column in names)), -torch.inf)
    for name, entry in data["edges"].items():
        score = torch.tensor(entry["score"], dtype=torch.float32)
        matrix[places[name]] = score.abs() if absolute else score
    order = torch.argsort(matrix.view(-1), descending=True, stable=True)[:n]
    return {names[divmod(at, matrix.shape[1])] for at in order.tolist()}


def pruned(kept: Iterable[str]) -> set[str]:
    """Drop edges from or into a node that isn't both reached and read, until there is none."""
    left = set(kept)
    ends = {name: (name.partition("->")[0], name.partition("->")[2].partition("<")[0]) for name in left}
    while True:
        into, out = {ends[name][1] for name in left} | {"input"}, {ends[name][0] for name in left} | {"logits"}
        alive = {name for name in left if ends[name][0] in into and ends[name][1] in out}
        if alive == left:
            return left
        left = alive


def refused(read: Callable[[Any], object], *arguments: Any) -> str:
    """The one line with which something is refused."""
    with pytest.raises(ScrubError) as caught:
        read(*arguments)
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    return message


class Bomb:
    """A pickle that leaves the file `exploded` behind if anybody opens it."""

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return Path.touch, (Path("exploded"),)


def written(path: Path, data: Any) -> Path:
    """A file of JSON, or of torch.save where its name ends so."""
    path.parent.mkdir(exist_ok=True, parents=True)
    torch.save(data, path) if path.suffix == ".pt" else path.write_text(json.dumps(data))
    return path
