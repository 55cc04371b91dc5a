"""Files of EAP-IG and MIB: read and written without a loss, and refused in one line where they are something else."""

from __future__ import annotations

import copy
import json
import pickle
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from graphs import REFERENCE, Bomb, matrices, random_graph, refused, written
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scrub.measure.circuits import files
from scrub.measure.circuits.circuit import Circuit
from scrub.measure.circuits.files import json_of, read_circuit, read_graph, write_circuit
from scrub.text.errors import ScrubError

GOOD = random_graph()
FIRST, KEPT = "input->a0.h0<q>", next(name for name, entry in GOOD["edges"].items() if entry["in_graph"])


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two files of torch.save hold the same, in the same types."""
    return list(one) == list(other) and all(
        value.dtype == other[name].dtype and torch.equal(value, other[name])
        if isinstance(value, torch.Tensor)
        else value == other[name]
        for name, value in one.items()
    )


@pytest.mark.skipif(not REFERENCE.exists(), reason="no sample beside the checkout")
def test_a_real_file_comes_back_to_the_byte():
    circuit = read_circuit(REFERENCE)
    write_circuit("a.json", circuit)
    assert Path("a.json").read_bytes() == REFERENCE.read_bytes()
    write_circuit("a.pt", circuit)
    write_circuit("b.json", read_circuit("a.pt"))
    assert Path("b.json").read_bytes() == REFERENCE.read_bytes()
    assert circuit.notes == ()


@pytest.mark.parametrize("parallel", [False, True])
def test_both_layouts_hold_the_same(parallel: bool):
    data = random_graph(3, 2, parallel)
    tensors = matrices(data)
    for name, content in (("a.json", data), ("a.pt", tensors)):
        circuit = read_circuit(written(Path(name), content))
        write_circuit("b.json", circuit)
        write_circuit("b.pt", circuit)
        assert json.loads(Path("b.json").read_text()) == data
        assert same(torch.load("b.pt"), tensors)
        assert circuit.notes == ()


def test_content_and_not_the_name_says_the_layout():
    one = read_circuit(written(Path("a.json"), GOOD))
    torch.save(matrices(GOOD), "x.json", _use_new_zipfile_serialization=False)
    Path("x.pt").write_text("\ufeff" + json.dumps(GOOD, indent=4))
    for name in ("x.json", "x.pt"):
        other = read_circuit(name)
        assert (one.kept, one.scores is not None and one.scores.tolist()) == (
            other.kept, other.scores is not None and other.scores.tolist(),
        )  # fmt: skip


def test_scores_without_a_circuit_and_a_circuit_without_scores():
    data = random_graph(share=0)
    circuit = read_circuit(written(Path("a.json"), data))
    assert circuit.kept is None
    write_circuit("b.json", circuit)
    assert json.loads(Path("b.json").read_text()) == data
    assert read_circuit(written(Path("a.pt"), matrices(data))).kept is None
    for entry in data["edges"].values():
        del entry["in_graph"]
    assert read_circuit(written(Path("a.json"), data)).kept is None

    data = copy.deepcopy(GOOD)
    for entry in data["edges"].values():
        del entry["score"]
    circuit = read_circuit(written(Path("a.json"), data))
    assert circuit.scores is None
    assert len(circuit.kept or ()) == sum(entry["in_graph"] for entry in data["edges"].values())
    assert json.loads(json_of(circuit)) == data
    for name in ("b.json", "b.pt"):  # theirs wants scores
        write_circuit(name, circuit)
        again = read_graph(name)
        assert again.scores is not None
        assert again.kept == again.top(len(circuit.kept or ())) == circuit.kept
        assert set(again.scores.tolist()) == {0.0, 1.0}
        again = read_circuit(name)
        assert (again.scores, again.kept) == (None, circuit.kept)
        assert "one circuit, and has no sizes" in again.notes[0]
    tensors = matrices(GOOD)
    del tensors["edges_scores"]
    assert read_circuit(written(Path("a.pt"), tensors)).kept == circuit.kept
    assert "says no layout" in refused(write_circuit, "c.txt", circuit)


def test_float64_loses_nothing():
    data = copy.deepcopy(GOOD)
    data["edges"][FIRST]["score"] = 0.1
    circuit = read_circuit(written(Path("a.json"), data))
    write_circuit("a.pt", circuit)
    assert json.loads(Path("a.json").read_text()) == data
    back = read_circuit("a.pt")
    assert back.scores is not None
    assert 0.1 in back.scores.tolist()


def test_edges_decide_and_that_is_said():
    data = copy.deepcopy(GOOD)
    flipped = [name for name in data["nodes"] if name != "logits"][:2]
    for name in flipped:
        data["nodes"][name]["in_graph"] ^= True
    data["cfg"]["seed"] = data["by"] = 1
    circuit = read_circuit(written(Path("a.json"), data))
    assert circuit.kept == read_circuit(written(Path("b.json"), GOOD)).kept
    assert circuit.notes == (
        "fields that aren't read: by, cfg.seed",
        f"nodes that are said to be in the graph, or not, against their edges: {', '.join(flipped)}: the edges decide",
    )
    assert read_circuit(written(Path("a.pt"), {**matrices(data), "by": 1})).notes == circuit.notes


def put(*path: str) -> Callable[[Any], Callable[[Any], None]]:
    """A mistake: something else at a place of a file."""

    def with_value(value: Any) -> Callable[[Any], None]:
        def change(data: Any) -> None:
            for step in path[:-1]:
                data = data[step]
            data[path[-1]] = value

        return change

    return with_value


def without(*path: str) -> Callable[[Any], None]:
    def change(data: Any) -> None:
        for step in path[:-1]:
            data = data[step]
        del data[path[-1]]

    return change


def of_all(field: str, value: Any = None) -> Callable[[Any], None]:
    def change(data: Any) -> None:
        for entry in data["edges"].values():
            entry.pop(field) if value is None else entry.update({field: value})

    return change


def both(*changes: Callable[[Any], None]) -> Callable[[Any], None]:
    return lambda data: [change(data) for change in changes] and None


CFG = {
    "n_layers 0": (put("cfg", "n_layers")(0), "says n_layers 0 in its cfg: expected a whole number above 0"),
    "n_layers a float": (put("cfg", "n_layers")(2.0), "says n_layers 2.0 in its cfg"),
    "n_heads true": (put("cfg", "n_heads")(True), "says n_heads True in its cfg"),
    "10**9 heads": (put("cfg", "n_heads")(10**9), "2 layers of 1000000000 heads, which have more than 5,000,000 edges"),
    "10**5 layers": (put("cfg", "n_layers")(10**5), "which have more than 5,000,000 edges"),
    "no d_model": (without("cfg", "d_model"), "says no 'd_model' in its cfg"),
    "parallel 0": (put("cfg", "parallel_attn_mlp")(0), "says parallel_attn_mlp 0 in its cfg: expected true or false"),
    "cfg a list": (put("cfg")([2]), "has a 'cfg' that is [2]: expected an object with n_layers"),
    "no cfg": (without("cfg"), "it has no 'cfg'"),
}
MISTAKES = CFG | {
    "no nodes": (without("nodes"), "it has no 'nodes'"),
    "no edges": (without("edges"), "it has no 'edges'"),
    "edges a list": (put("edges")([]), "has 'edges' that are a list"),
    "3 layers said": (
        put("cfg", "n_layers")(3),
        "has 75 edges, but a model of its cfg, 3 layers of 3 heads, d_model 11, has 172: write all",
    ),
    "1 layer said": (put("cfg", "n_layers")(1), "has a node 'a1.h0', but a model of its cfg has none"),
    "parallel said": (put("cfg", "parallel_attn_mlp")(True), "'a0.h0->m0', but m0 comes before a0.h0, or at its side"),
    "scores of nodes": (put("nodes", "m0", "score")(0.5), "gives the node m0 'score', so it is a graph of nodes"),
    "unscored nodes": (put("nodes", "m0", "score")(float("nan")), "gives the node m0 'score', so it is a graph of nod"),
    "neurons": (put("nodes", "m0", "neurons")([True]), "gives the node m0 'neurons', so it is a graph of nodes or"),
    "neurons_scores": (put("nodes", "m0", "neurons_scores")([1.0]), "gives the node m0 'neurons_scores'"),
    "neurons above": (put("neurons")({}), "has 'neurons', so it is a graph of nodes or neurons"),
    "a node that is none": (put("nodes", "x\n")({}), "has a node 'x\\n', but a model of its cfg has none"),
    "a node's word": (put("nodes", "m0", "in_graph")("yes"), "says that m0 is in the graph: 'yes': expected true or"),
    "a node as a list": (put("nodes", "m0")([]), "says of the node m0 []: expected an object with 'in_graph'"),
    "NaN": (put("edges", FIRST, "score")(float("nan")), f"scores {FIRST} with nan, which is no finite number"),
    "infinite": (put("edges", FIRST, "score")(-float("inf")), f"scores {FIRST} with -inf, which is no finite number"),
    "over float32": (put("edges", FIRST, "score")(1e39), f"scores {FIRST} with 1e+39, which is too large for float32"),
    "over float64": (put("edges", FIRST, "score")(10**999), f"scores {FIRST} with inf"),
    "a score as text": (put("edges", FIRST, "score")("0.5"), f"scores {FIRST} with '0.5', and others with numbers"),
    "a score that is true": (put("edges", FIRST, "score")(True), f"scores {FIRST} with True, and others with numbers"),
    "a score missing": (without("edges", FIRST, "score"), f"scores {FIRST} with None, and others with numbers"),
    "membership 1": (put("edges", FIRST, "in_graph")(1), f"says that {FIRST} is in the graph: 1: expected true or"),
    "membership null": (put("edges", FIRST, "in_graph")(None), f"says that {FIRST} is in the graph: None: expected"),
    "an edge as a number": (put("edges", FIRST)(0.5), f"says of {FIRST} 0.5: expected an object with its score"),
    "upward": (put("edges", "m1->m0")({}), "has an edge 'm1->m0', but m0 comes before m1, or at its side"),
    "across": (put("edges", "a0.h0->a0.h1<q>")({}), "has an edge 'a0.h0->a0.h1<q>', but a0.h1 comes before a0.h0"),
    "into the input": (put("edges", "m0->input")({}), "has an edge 'm0->input', but input comes before m0"),
    "no slot": (put("edges", "m0->a1.h0")({}), "which doesn't say what of a1.h0 reads: write m0->a1.h0<q>, <k> or <v>"),
    "a slot of an MLP": (put("edges", "m0->m1<q>")({}), "has an edge 'm0->m1<q>', but m1 has no q: write m0->m1"),
    "no head": (put("edges", "a0.h7->m1")({}), "has an edge 'a0.h7->m1', but a model of its cfg has no a0.h7"),
    "no name": (put("edges", "out/m0")({}), "has an edge 'out/m0', which is no name of an edge: expected one like"),
    "edges missing": (without("edges", FIRST), f"misses 1 of the 75 edges of a model of its cfg: {FIRST}"),
    "empty": (both(of_all("score"), of_all("in_graph", False)), "keeps no edge and scores none"),
    "neither": (both(of_all("score"), of_all("in_graph")), f"says that {FIRST} is in the graph: None"),
}


@pytest.mark.parametrize(("change", "why"), MISTAKES.values(), ids=MISTAKES)
def test_what_is_no_graph_of_edges(change: Callable[[Any], None], why: str):
    data = copy.deepcopy(GOOD)
    change(data)
    message = refused(read_circuit, written(Path("a.json"), data))
    assert message.startswith("a.json ")
    assert why in message


def first_cell(field: str, value: float) -> Callable[[Any], None]:
    return lambda data: data[field].__setitem__((0, 0), value)


SIZE = "[9, 21]"
PT_MISTAKES = CFG | {
    "no readers": (without("dst_nodes"), "it has no 'dst_nodes'"),
    "scores of nodes": (put("nodes_scores")(torch.zeros(9)), "has 'nodes_scores', so it is a graph of nodes or neuron"),
    "neurons": (put("neurons_in_graph")(torch.zeros(9, 11)), "has 'neurons_in_graph', so it is a graph of nodes or ne"),
    "transposed": (
        lambda data: data.update(edges_scores=data["edges_scores"].T),
        f"'edges_scores' that is float32 [21, 9]: a model of its cfg has floating-point {SIZE}",
    ),
    "members as numbers": (
        lambda data: data.update(edges_in_graph=data["edges_in_graph"].float()),
        f"'edges_in_graph' that is float32 [9, 21]: a model of its cfg has bool {SIZE}",
    ),
    "nodes short": (
        lambda data: data.update(nodes_in_graph=data["nodes_in_graph"][1:]),
        "'nodes_in_graph' that is bool [8]: a model of its cfg has bool [9]",
    ),
    "no tensor": (put("edges_in_graph")([[True]]), "has 'edges_in_graph' that is no ordinary tensor"),
    "sparse": (lambda data: data.update(edges_scores=data["edges_scores"].to_sparse()), "that is no ordinary tensor"),
    "huge": (put("edges_scores")(torch.zeros(1).expand(10**9)), "that is no ordinary tensor"),
    "names as tensors": (put("src_nodes")([torch.zeros(2)] * 9), "has other 'src_nodes' than a model of its cfg"),
    "another order": (lambda data: data["src_nodes"].reverse(), "has other 'src_nodes' than a model of its cfg, input"),
    "NaN": (first_cell("edges_scores", float("nan")), f"scores {FIRST} with nan, which is no finite number"),
    "upward": (
        lambda data: data["edges_in_graph"].__setitem__((8, 0), True),
        "keeps m1->a0.h0<q>, but a0.h0 comes before m1",
    ),
    "empty": (both(without("edges_scores"), lambda d: d["edges_in_graph"].zero_()), "keeps no edge and scores none"),
}


@pytest.mark.parametrize(("change", "why"), PT_MISTAKES.values(), ids=PT_MISTAKES)
def test_what_is_no_graph_of_edges_in_torch(change: Callable[[Any], object], why: str):
    data = matrices(GOOD)
    change(data)
    message = refused(read_circuit, written(Path("a.pt"), data))
    assert message.startswith("a.pt ")
    assert why in message


def test_what_lies_beside_edges_in_a_matrix_is_not_looked_at():
    data = matrices(GOOD)
    data["edges_scores"][8, 0] = float("nan")
    assert read_circuit(written(Path("a.pt"), data)).kept == read_circuit(written(Path("a.json"), GOOD)).kept


@pytest.mark.parametrize("content", [
    lambda: pickle.dumps({"cfg": Bomb()}), lambda: pickle.dumps(Bomb(), protocol=0),
    lambda: (torch.save({"cfg": Bomb()}, "x"), Path("x").read_bytes())[1],
    lambda: (torch.save(Bomb(), "x", _use_new_zipfile_serialization=False), Path("x").read_bytes())[1],
])  # fmt: skip
def test_code_in_a_file_never_runs(content: Callable[[], bytes]):
    Path("a.pt").write_bytes(content())
    message = refused(read_circuit, "a.pt")
    assert any(why in message for why in ("tensors only; take a JSON copy", "is no JSON", "another copy, best of JSON"))
    assert not Path("exploded").exists()


@pytest.mark.parametrize(("content", "why"), [
    (b"", "a.json is empty: give a graph"),
    (b"[]", "a.json is no graph: expected a JSON object with cfg, nodes, edges, found a list"),
    (b'{"cfg": 1, "cfg": 2}', "a.json is no JSON: the field 'cfg' is there twice"),
    (json.dumps(GOOD).encode()[:-9], "a.json is no JSON: "),
    (json.dumps(GOOD).replace(KEPT, FIRST).encode(), f"a.json is no JSON: the field '{FIRST}' is there twice"),
    (b"\xff" * 9, "a.json is no JSON: byte 0 isn't UTF-8"),
    (b"[" * 10**5, "a.json is no JSON: "),
    (b"PK\x03\x04" + b"0" * 99, "a.json is no intact file of torch.save"),
])  # fmt: skip
def test_what_is_no_file_of_this_kind(content: bytes, why: str):
    Path("a.json").write_bytes(content)
    assert why in refused(read_circuit, "a.json")


def test_what_is_no_file():
    assert ". is a folder: give a graph as EAP-IG or MIB write one" in refused(read_circuit, ".")
    assert "b.json is not there: give a graph" in refused(read_circuit, "b.json")
    assert "/dev/zero is no file" in refused(read_circuit, "/dev/zero")


def refused_cheaply(path: str | Path, most: int = 4) -> str:
    """The one line with which a file is refused, before so many MiB are taken."""
    tracemalloc.start()
    try:
        message = refused(read_circuit, path)
        assert tracemalloc.get_traced_memory()[1] < most * 2**20
    finally:
        tracemalloc.stop()
    return message


@pytest.mark.parametrize(("start", "why"), [
    (json.dumps(GOOD), "a.json has 200 MiB, but the 75 edges of a model of its cfg take at most 1: it is something"),
    (json.dumps(dict(reversed(GOOD.items()))), "a.json has 200 MiB and doesn't begin with a 'cfg'"),
    ('{"cfg": {"n_layers": 99, "n_heads": 99, "d_model": 1, "parallel_attn_mlp": false}', "more than 5,000,000 edges"),
    ("PK\x03\x04", "a.json has over 128 MiB, so it is something else"),
])  # fmt: skip
def test_a_large_file_is_refused_unread(start: str, why: str):
    with Path("a.json").open("wb") as file:
        file.write(start.encode())
        file.truncate(200 * 2**20)  # holes, which no disk holds
    assert why in refused_cheaply("a.json")


def test_a_small_file_that_says_a_large_model():
    """As large as Llama 3.1 8B, whose edges take 200 MiB: none is made before the file is known to hold them."""
    of_json, of_torch = copy.deepcopy(GOOD), matrices(GOOD)
    for data in (of_json, of_torch):
        data["cfg"] |= {"n_layers": 32, "n_heads": 32}
    why = "has 75 edges, but a model of its cfg, 32 layers of 32 heads, d_model 11, has 1,592,881: write all"
    assert why in refused_cheaply(written(Path("a.json"), of_json), 80)  # any small file is read into 64 MiB
    assert "has other 'src_nodes' than a model of its cfg" in refused_cheaply(written(Path("a.pt"), of_torch))


def test_a_large_file_that_can_be_a_graph_is_read(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(files, "LARGEST", 99)
    Path("a.json").write_text(json.dumps(GOOD, indent=4))  # over the number of bytes that is read of anything
    assert read_circuit("a.json").kept


def survives(path: Path) -> None:
    try:
        assert isinstance(read_graph(path), Circuit)
        return
    except ScrubError as error:
        line = str(error)
    assert len(line.splitlines()) == 1
    assert line.startswith(path.name)
    assert len(line) < 700


TINY = random_graph(1, 1, seed=4)
odd = st.sampled_from(
    [None, True, 0, -1, 2, 10**400, 1.5, float("nan"), "", "m0", "\ud800\n\u2028", [], {}, [1], {"a": 1}]
)
keys = st.sampled_from(
    ["cfg", "nodes", "edges", "input", "m0", "m0->logits", "score", "in_graph", "n_heads", "\0->", "<q>"]
)
fuzz = settings(suppress_health_check=list(HealthCheck), max_examples=120, deadline=None)


def mutate(data: Any, draw: Callable[..., Any]) -> None:
    """Put something odd somewhere, take something out, or add something."""
    while True:
        name = draw(st.sampled_from(sorted(data, key=str)))
        if not isinstance(data[name], dict) or not data[name] or draw(st.booleans()):
            break
        data = data[name]
    what = draw(st.sampled_from(["put", "add", "drop"]))
    if what == "drop":
        del data[name]
    else:
        data[name if what == "put" else draw(keys)] = draw(odd)


@fuzz
@given(st.data())
def test_one_mutation_of_json(data: st.DataObject):
    tree = copy.deepcopy(TINY)
    for _ in range(data.draw(st.integers(1, 3))):
        mutate(tree, data.draw)
        if not tree:
            break
    survives(written(Path("fuzz.json"), tree))


@fuzz
@given(st.data())
def test_one_mutation_of_torch(data: st.DataObject):
    tree = matrices(TINY)
    mutate(tree, data.draw)
    survives(written(Path("fuzz.pt"), tree))


@fuzz
@given(st.data())
def test_bytes_of_json(data: st.DataObject):
    content = bytearray(json.dumps(TINY).encode())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(content) - 1))
        content[at : at + data.draw(st.integers(0, 5))] = data.draw(st.binary(max_size=5))
    Path("fuzz.json").write_bytes(content)
    survives(Path("fuzz.json"))
