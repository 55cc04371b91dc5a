"""Graphs of EAP-IG and MIB in files, JSON or torch.save's: read as anyone's, and written so that theirs reads them."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from scrub.measure.circuits.circuit import Circuit, wrong_score
from scrub.measure.circuits.shape import Shape, node_name, reader_name, why_no_edge
from scrub.models.checkpoints.reading import parse
from scrub.models.checkpoints.stored import is_plain, load_torch, not_torch
from scrub.paths.edges import OUT, Edge
from scrub.text.errors import ScrubError
from scrub.text.fields import check_arguments
from scrub.text.files import LARGEST, check_file, read_file, shown, unreadable, write_atomically
from scrub.text.wording import dtype_name, few, kind, short

_HOW = "give a graph as EAP-IG or MIB write one, JSON or .pt"
_TORCH = (b"PK\x03\x04", b"\x80")  # what files of torch.save begin with, those of today and old ones
_LARGEST_TORCH = 128 * 2**20  # bytes; 5 million edges are a matrix of 10 million scores in float64
_EDGE_BYTES = 200  # of JSON, at most: 73 as EAP-IG writes them, 125 well indented, and room for the nodes
_BEGINNING = 2**14  # bytes, in which a file that is large says its cfg
_CFG = re.compile(r'\s*\{\s*"cfg"\s*:\s*(\{[^{}]*\})')
_FIELDS = ("cfg", "nodes", "edges")
_TENSORS = ("cfg", "src_nodes", "dst_nodes", "edges_in_graph", "nodes_in_graph")
_OF_NODES = ("nodes_scores", "neurons", "neurons_in_graph", "neurons_scores")  # in a file
_OF_A_NODE = ("score", "neurons", "neurons_scores")
_ONLY_KEPT = "the scores are 1 of the edges in the graph and 0 of all others, so it is one circuit, and has no sizes"
_NONE_KEPT = (
    "keeps no edge and scores none, so nothing is said of the model: take a file with scores, or one that keeps"
)


@check_arguments
def read_circuit(path: str | Path) -> Circuit:
    """Read a graph as EAP-IG and MIB write one, JSON or of torch.save, whatever it is called: `read_circuit("a.json")`.

    Nothing of the file is believed, and no code in it runs. A file in which no edge is in the graph, but all have
    scores, keeps None; where scores are 1 of the edges in the graph and 0 of all others, as :func:`write_circuit` has
    them, they say no more than that, and it has none. Raises ScrubError, in one line, for what is no such graph, or
    scores nodes or neurons.
    """
    circuit = read_graph(path)
    if circuit.scores is None and not circuit.kept:
        raise ScrubError(f"{shown(path)} {_NONE_KEPT} some")
    if circuit.scores is not None and circuit.kept and np.array_equal(circuit.scores, _membership_scores(circuit)):
        return replace(circuit, scores=None, notes=(*circuit.notes, _ONLY_KEPT))
    return circuit


def _membership_scores(circuit: Circuit) -> Float[np.ndarray, " edge"]:
    kept = circuit.kept or frozenset()
    return np.array([float(edge in kept) for edge in circuit.edges])


def read_graph(path: str | Path) -> Circuit:
    """Read a graph as :func:`read_circuit` does, also an empty one: `read_graph("0.json")`."""
    path = Path(path)
    check_file(path, _HOW)
    try:
        with path.open("rb") as file:
            start = file.read(4)
    except OSError as error:
        raise unreadable(path, error) from error
    if not start:
        raise ScrubError(f"{shown(path)} is empty: {_HOW}")
    return _read_torch(path) if start.startswith(_TORCH) else _read_json(path)


# JSON


def _read_json(path: Path) -> Circuit:
    where, data = shown(path), _parsed(path)
    if not isinstance(data, dict):
        raise ScrubError(f"{where} is no graph: expected a JSON object with {', '.join(_FIELDS)}, found {kind(data)}")
    _check_fields(where, data, _FIELDS)
    for name in ("nodes", "edges"):
        if not isinstance(data[name], dict):
            raise ScrubError(f"{where} has {name!r} that are {kind(data[name])}: expected an object, by their names")
    shape = Shape.read(data["cfg"], where)
    nodes = _nodes(where, data["nodes"], shape)
    scores, kept = _edges(where, data["edges"], shape)
    return _circuit(path, shape, scores, kept, nodes, _unread(data, _FIELDS, data["cfg"]))


def _parsed(path: Path) -> object:
    most = LARGEST if path.stat().st_size <= LARGEST else _most_bytes(path)
    try:
        text = read_file(path, _HOW, most).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ScrubError(f"{shown(path)} is no JSON: byte {error.start} isn't UTF-8; {_HOW}") from error
    return parse(path, text, nan=True)


def _most_bytes(path: Path) -> int:
    """Say how large the graph of the cfg that a file begins with can be, before it is read."""
    with path.open("rb") as file:
        beginning = file.read(_BEGINNING).decode("utf-8-sig", "replace")
    size = path.stat().st_size >> 20
    found = _CFG.match(beginning)
    if not found:
        raise ScrubError(f"{shown(path)} has {size:,} MiB and doesn't begin with a 'cfg', so nobody knows what it is: "
                         f"{_HOW}, its 'cfg' first")  # fmt: skip
    shape = Shape.read(parse(path, found[1]), shown(path))
    most = _BEGINNING + _EDGE_BYTES * shape.count
    if path.stat().st_size > most:
        raise ScrubError(f"{shown(path)} has {size:,} MiB, but the {shape.count:,} edges of a model of its cfg take at "
                         f"most {(most >> 20) + 1:,}: it is something else; replace it")  # fmt: skip
    return most


def _check_fields(where: str, data: Mapping[str, Any], fields: Sequence[str]) -> None:
    if missing := [name for name in fields if name not in data]:
        raise ScrubError(f"{where} is no graph of edges: it has no {', '.join(map(repr, missing))}; {_HOW}")
    if of_nodes := [name for name in _OF_NODES if name in data]:
        raise _graph_of_nodes(where, f"has {of_nodes[0]!r}")


def _graph_of_nodes(where: str, why: str) -> ScrubError:
    return ScrubError(
        f"{where} {why}, so it is a graph of nodes or neurons: edges are what is read; run the method with level='edge'"
    )


def _nodes(where: str, nodes: Mapping[str, Any], shape: Shape) -> dict[str, bool]:
    known, found = {node_name(name): name for name in (*shape.senders, OUT)}, {}
    for name, entry in nodes.items():
        if name not in known:
            raise ScrubError(f"{where} has a node {short(name)}, but a model of its cfg has none: replace it")
        if not isinstance(entry, dict):
            raise ScrubError(f"{where} says of the node {name} {short(entry)}: expected an object with 'in_graph'")
        if of_nodes := [each for each in _OF_A_NODE if each in entry]:
            raise _graph_of_nodes(where, f"gives the node {name} {of_nodes[0]!r}")
        found[known[name]] = _membership(where, name, entry.get("in_graph"))
    return found


def _edges(
    where: str, edges: Mapping[str, Any], shape: Shape
) -> tuple[Float[np.ndarray, " edge"] | None, Bool[np.ndarray, " edge"]]:
    """Read the score of each edge, and whether it is kept, in the order of the shape."""
    if 2 * len(edges) < shape.count:  # said before the memory of as many is taken
        raise ScrubError(f"{where} has {len(edges):,} edges, but a model of its cfg, {shape}, has {shape.count:,}: "
                         "write all of them, each with its score or as not in the graph")  # fmt: skip
    names = shape.names
    entries = [edges.get(name) for name in names]
    there = sum(name in edges for name in names)
    if there < len(edges):
        known = set(names)
        other = next(name for name in edges if name not in known)
        raise ScrubError(f"{where} has an edge {short(other)}, {why_no_edge(other, shape)}")
    if there < len(names):
        missing = [name for name in names if name not in edges]
        raise ScrubError(f"{where} misses {len(missing):,} of the {len(names):,} edges of a model of its cfg: "
                         f"{few(missing)}: write all of them, each with its score or as not in the graph")  # fmt: skip
    whole: list[dict[str, Any]] = [entry for entry in entries if isinstance(entry, dict)]
    if len(whole) < len(entries):
        name, entry = next((n, e) for n, e in zip(names, entries, strict=True) if not isinstance(e, dict))
        raise ScrubError(f"{where} says of {name} {short(entry)}: expected an object with its score")
    scores = _scores(where, [entry.get("score") for entry in whole], names)
    members = [entry.get("in_graph") for entry in whole]
    if set(map(type, members)) != {bool}:
        for name, entry in zip(names, whole, strict=True):
            if scores is None or "in_graph" in entry:
                _membership(where, name, entry.get("in_graph"))
    return scores, np.array([bool(member) for member in members])


def _membership(where: str, name: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise ScrubError(f"{where} says that {name} is in the graph: {short(value)}: expected true or false")
    return value


def _scores(where: str, values: list[Any], names: list[str]) -> Float[np.ndarray, " edge"] | None:
    kinds = set(map(type, values))
    if kinds == {type(None)}:
        return None
    if not kinds <= {float, int}:
        at = next(at for at, value in enumerate(values) if type(value) not in (float, int))
        raise ScrubError(f"{where} scores {names[at]} with {short(values[at])}, and others with numbers: score each")
    try:
        scores = np.array(values, dtype=np.float64)
    except OverflowError:  # a whole number that no float holds
        scores = np.array([value if abs(value) < 2**1000 else np.inf for value in values], dtype=np.float64)
    return _checked(where, scores, names)


def _checked(where: str, scores: Float[np.ndarray, " edge"], names: list[str]) -> Float[np.ndarray, " edge"]:
    if wrong := wrong_score(scores):
        raise ScrubError(f"{where} scores {names[wrong[0]]} with {wrong[1]}")
    return scores


def _unread(data: Mapping[str, Any], fields: Sequence[str], cfg: Mapping[str, Any]) -> list[str]:
    left = [short(name, quoted=False) for name in data if name not in fields]
    left += [f"cfg.{short(name, quoted=False)}" for name in cfg if name not in Shape.__dataclass_fields__]
    return [f"fields that aren't read: {few(left)}"] if left else []


# torch.save


def _read_torch(path: Path) -> Circuit:
    where = shown(path)
    check_file(path, _HOW, _LARGEST_TORCH)
    try:
        data = load_torch(path)
    except Exception as error:  # every kind of damage has its own class
        raise ScrubError(f"{where} {not_torch(path, error, 'JSON')}") from error
    if not isinstance(data, dict):
        raise ScrubError(f"{where} holds {short(type(data).__name__)}: expected a dict with {', '.join(_TENSORS)}")
    _check_fields(where, data, _TENSORS)
    shape = Shape.read(data["cfg"], where)
    senders, readers = shape.senders, shape.readers
    for field, names in (("src_nodes", list(map(node_name, senders))), ("dst_nodes", list(map(reader_name, readers)))):
        if not isinstance(data[field], list | tuple) or list(data[field]) != names:
            raise ScrubError(f"{where} has other {field!r} than a model of its cfg, {names[0]} to {names[-1]} in "
                             "EAP-IG's order: whose rows and columns they are isn't known; replace it")  # fmt: skip
    matrix = (len(senders), len(readers))
    kept = _tensor(where, data, "edges_in_graph", matrix, torch.bool)
    nodes = _tensor(where, data, "nodes_in_graph", matrix[:1], torch.bool)
    cells, names = shape.cells, shape.names
    if upward := _outside(kept, cells):
        name = f"{node_name(senders[upward[0]])}->{reader_name(readers[upward[1]])}"
        raise ScrubError(f"{where} keeps {name}, {why_no_edge(name, shape)}")
    scores = None
    if "edges_scores" in data:
        values = _tensor(where, data, "edges_scores", matrix, None)
        scores = _checked(where, values[cells].astype(np.float64), names)
    flags = dict(zip(senders, map(bool, nodes), strict=True))
    return _circuit(path, shape, scores, kept[cells], flags, _unread(data, (*_TENSORS, "edges_scores"), data["cfg"]))


def _tensor(
    where: str, data: Mapping[str, Any], field: str, shape: tuple[int, ...], dtype: torch.dtype | None
) -> np.ndarray:
    """Take a tensor of this shape; of any floating-point type where none is given."""
    value, expected = data[field], dtype_name(dtype) if dtype else "floating-point"
    if not is_plain(value):
        raise ScrubError(f"{where} has {field!r} that is no ordinary tensor: expected {expected} {list(shape)}")
    assert isinstance(value, Tensor)
    right = value.is_floating_point() if dtype is None else value.dtype == dtype
    if not right or tuple(value.shape) != shape:
        found = f"{dtype_name(value.dtype)} {list(value.shape)}"
        raise ScrubError(f"{where} has {field!r} that is {found}: a model of its cfg has {expected} {list(shape)}")
    plain = value.detach() if dtype is not None else value.detach().double()
    return np.array(plain.numpy())  # its own copy: the file may change


def _outside(kept: Bool[np.ndarray, "sender reader"], cells: tuple[np.ndarray, np.ndarray]) -> tuple[int, int] | None:
    """Find a cell that is kept, though it is no edge."""
    other = kept.copy()
    other[cells] = False
    found = np.argwhere(other)
    return (int(found[0][0]), int(found[0][1])) if len(found) else None


# both


def _circuit(
    path: Path,
    shape: Shape,
    scores: Float[np.ndarray, " edge"] | None,
    kept: Bool[np.ndarray, " edge"],
    nodes: Mapping[str, bool],
    notes: list[str],
) -> Circuit:
    edges = shape.edges
    members = frozenset(edges[at] for at in np.flatnonzero(kept))
    if members:
        own = _nodes_kept(shape, members)
        if against := [node_name(name) for name, said in nodes.items() if said != own[name]]:
            notes = [*notes, f"nodes that are said to be in the graph, or not, against their edges: {few(against)}: "
                             "the edges decide"]  # fmt: skip
    return Circuit(edges, scores, None if scores is not None and not members else members, shape, path.name,
                   tuple(notes))  # fmt: skip


def _nodes_kept(shape: Shape, kept: frozenset[Edge]) -> dict[str, bool]:
    """Find the nodes that EAP-IG takes to be in a graph: those that read and are read, and always the logits."""
    read = {edge.reader.partition("/")[0] for edge in kept} | {shape.senders[0]}
    sent = {edge.sender for edge in kept}
    return {name: name in read and name in sent for name in shape.senders} | {OUT: True}


@check_arguments
def write_circuit(path: str | Path, circuit: Circuit) -> None:
    """Write a circuit as EAP-IG does, a .json or a .pt by its name: `write_circuit("importances.json", circuit)`.

    Readers of that layout want a score of each edge: where there are none, they are 1 of those that are kept and 0 of
    the others, so that the highest are the circuit. Raises ScrubError for a model that this layout can't say, and where
    the file can't be written.
    """
    write_atomically(path, content_of(path, circuit))


def check_written(path: str | Path, circuit: Circuit) -> None:
    """Raise ScrubError where :func:`write_circuit` would, before scores are there: whatever they are."""
    path = Path(path)
    if path.suffix not in (".json", ".pt"):
        raise ScrubError(f"{shown(path)} has a name that says no layout: call it .json, or .pt for one of torch.save")
    if circuit.edges != circuit.shape.edges:
        raise ScrubError(_unsaid(circuit))


def content_of(path: str | Path, circuit: Circuit) -> str | bytes:
    """Make what :func:`write_circuit` writes into a file of that name: `content_of("importances.json", circuit)`."""
    check_written(path, circuit)
    if circuit.scores is None:
        circuit = replace(circuit, scores=_membership_scores(circuit))
    return json_of(circuit) if Path(path).suffix == ".json" else _torch(circuit)


def _unsaid(circuit: Circuit) -> str:
    there = {edge.reader for edge in circuit.edges}
    lone = any(reader.startswith("m") and reader not in there for reader in circuit.shape.readers)
    what = (
        ("an MLP in every layer", "layers without one") if lone else ("as many heads in every layer", "fewer in some")
    )
    return (
        f"{circuit.name} can't be written: in EAP-IG's and MIB's layout a model has {what[0]}, but this one has "
        f"{what[1]}; keep it as a hypothesis"
    )


def json_of(circuit: Circuit) -> str:
    """Write a circuit in EAP-IG's layout of JSON, without scores where it has none: `json_of(circuit)`."""
    shape, kept = circuit.shape, circuit.kept or frozenset()
    nodes = {node_name(name): {"in_graph": said} for name, said in _nodes_kept(shape, kept).items()}
    member = ("false", "true")
    named = zip(shape.names, circuit.edges, strict=True)
    if circuit.scores is None:
        lines = [f'"{name}": {{"in_graph": {member[edge in kept]}}}' for name, edge in named]
    else:
        scores = circuit.scores.tolist()
        lines = [
            f'"{name}": {{"score": {score!r}, "in_graph": {member[edge in kept]}}}'
            for (name, edge), score in zip(named, scores, strict=True)
        ]
    return f'{{"cfg": {json.dumps(shape.cfg)}, "nodes": {json.dumps(nodes)}, "edges": {{' + ", ".join(lines) + "}}"


def _torch(circuit: Circuit) -> bytes:
    assert circuit.scores is not None
    shape, kept = circuit.shape, circuit.kept or frozenset()
    senders, readers, cells = shape.senders, shape.readers, shape.cells
    exact = bool((circuit.scores.astype(np.float32) == circuit.scores).all())  # theirs are float32; no digit is lost
    scores = np.zeros((len(senders), len(readers)), np.float32 if exact else np.float64)
    members = np.zeros(scores.shape, np.bool_)
    scores[cells], members[cells] = circuit.scores, [edge in kept for edge in circuit.edges]
    nodes = _nodes_kept(shape, kept)
    data = {
        "cfg": shape.cfg,
        "src_nodes": [node_name(name) for name in senders],
        "dst_nodes": [reader_name(name) for name in readers],
        "edges_scores": torch.from_numpy(scores),
        "edges_in_graph": torch.from_numpy(members),
        "nodes_in_graph": torch.tensor([nodes[name] for name in senders]),
    }
    buffer = io.BytesIO()
    torch.save(data, buffer)
    return buffer.getvalue()
