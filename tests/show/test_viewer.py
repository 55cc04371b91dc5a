"""The file for viewers of attribution graphs has their schema, and what their code asks for beyond it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import charted
import numpy as np
import pytest
from jsonschema import Draft7Validator

import scrub
from scrub.paths.edges import Edge
from scrub.show.viewer import viewer_json
from scrub.text.errors import ScrubError

REFERENCE = Path(__file__).parents[3] / "shared/reference/formats/neuronpedia_graph-schema.json"  # beside the checkout
TOKENS = ["When", " Mary", " and", " John"]
OF = charted.edge_scores(3, 4)


def written(edges: list[Edge], scores: np.ndarray | None = None, **how: Any) -> dict[str, Any]:
    """What is written of some edges."""
    how = {"model": "gpt2", "slug": "ioi", "prompt_tokens": TOKENS, "metric": "logit_diff", **how}
    found: dict[str, Any] = json.loads(viewer_json(edges, scores, **how))
    return found


STEPS = [Edge.parse(each) for each in ("a1.ind/k/a0.prev[previous]", "a1.ind/k/a0.prev[rest]/v/emb", "out/a1.ind")]
GRAPHS = {
    "all": written(list(OF.edges), OF.scores, unit="logits"),
    "unscored": written(list(OF.edges)[-5:]),
    "steps": written(STEPS, np.array([1.0, -2.0, 0.5]), at={"a0.prev[previous]": 1}),
}


@pytest.mark.parametrize("name", GRAPHS)
def test_it_has_the_schema(name: str) -> None:
    if not REFERENCE.exists():
        pytest.skip("the schema isn't beside the checkout")
    schema = json.loads(REFERENCE.read_text())
    Draft7Validator.check_schema(schema)
    Draft7Validator(schema).validate(GRAPHS[name])
    broken = json.loads(json.dumps(GRAPHS[name]))
    del broken["nodes"][0]["clerp"]
    assert list(Draft7Validator(schema).iter_errors(broken))


@pytest.mark.parametrize("name", GRAPHS)
def test_it_has_what_viewers_ask_for(name: str) -> None:
    """Written down anew from their code: see the head of `scrub/show/viewer.py`."""
    of = GRAPHS[name]
    nodes, count = of["nodes"], len(of["metadata"]["prompt_tokens"])
    assert count * 2 / 3 >= 1, "else circuit-tracer drops every node"
    by_id = {node["node_id"]: node for node in nodes}
    again = {f"{node['layer']}_{node['feature']}_{node['ctx_idx']}" for node in nodes}
    assert len(by_id) == len(again) == len({node["jsNodeId"] for node in nodes}) == len(nodes)
    for node in nodes:
        assert type(node["feature"]) is int
        assert 0 <= node["ctx_idx"] < count
        assert not {"error", "transcoder", "lorsa"} & set(node["feature_type"].split())
        assert node["feature_type"] not in {"embedding", "mlp reconstruction error"}  # whose labels are replaced
    (output,) = (node for node in nodes if node["feature_type"] == "logit")
    assert output["clerp"].split('"')[1] == "logit_diff"
    assert output["clerp"].split("(p=")[1].split(")")[0]
    layers = {node["node_id"]: int(node["layer"]) for node in nodes}
    others = [layer for key, layer in layers.items() if key != output["node_id"]]
    assert layers[output["node_id"]] == max(others) + 1
    assert max(others) > 0
    assert all(layer == -1 for key, layer in layers.items() if by_id[key]["clerp"] == "emb")
    ends = [(link["source"], link["target"]) for link in of["links"]]
    assert len(set(ends)) == len(ends)
    assert all(layers[below] <= layers[above] for below, above in ends)
    assert set(of["qParams"]["pinnedIds"]) == set(by_id)
    assert of["metadata"].get("schema_version") != 1
    assert of["metadata"]["info"]["generator"] == {"name": "scrub", "version": scrub.__version__}
    assert "no transcoder features" in of["metadata"]["info"]["description"]


def test_a_link_is_the_sum_of_the_edges_between_two_components() -> None:
    of = GRAPHS["all"]
    label = {node["node_id"]: node["clerp"].replace('Output "logit_diff" (p=n/a)', "out") for node in of["nodes"]}
    found = {(label[link["source"]], label[link["target"]]): link["weight"] for link in of["links"]}
    wanted: dict[tuple[str, str], float] = {}
    for edge, score in zip(OF.edges, OF.scores, strict=True):
        ends = edge.sender, edge.reader.split("/")[0]
        wanted[ends] = wanted.get(ends, 0.0) + score
    assert found == pytest.approx(wanted)
    assert {link["weight"] for link in GRAPHS["unscored"]["links"]} == {1.0}
    types = {node["clerp"]: node["feature_type"] for node in of["nodes"]}
    assert (types["a1.3"], types["m2"], types["emb"]) == ("attention head", "mlp", "embedding of all positions")
    assert next(node["feature"] for node in of["nodes"] if node["clerp"] == "a1.3") == 3


def test_components_are_where_the_output_is_scored_unless_it_is_said() -> None:
    at = {node["clerp"]: node["ctx_idx"] for node in GRAPHS["steps"]["nodes"]}
    assert at.pop("a0.prev[previous]") == 1
    assert set(at.values()) == {3}
    assert "unless another was given" in GRAPHS["steps"]["metadata"]["info"]["description"]
    assert {node["ctx_idx"] for node in written(STEPS, position=2)["nodes"]} == {2}


def test_neuronpedias_gpt2_is_a_row_higher() -> None:
    """It draws that model a row lower, whatever its layers: with -1 the embedding would be below the picture."""
    for model, first in (("gpt2", 0), ("gpt2-small", 1)):
        of = written(STEPS, model=model)
        layers = {node["clerp"].split()[0]: int(node["layer"]) for node in of["nodes"]}
        assert layers == {"emb": first - 1, "a0.prev[previous]": first, "a0.prev[rest]": first} | {
            "a1.ind": first + 1,
            "Output": first + 2,
        }
        assert f"Layers count from {first}" in of["metadata"]["info"]["description"]


@pytest.mark.parametrize(
    ("how", "told"),
    [({"position": 4}, "position 4"), ({"at": {"emb": -5}}, "emb .* -5"), ({"prompt_tokens": ["a"]}, "two tokens")],
)
def test_what_viewers_cant_draw_is_told(how: dict[str, Any], told: str) -> None:
    with pytest.raises(ScrubError, match=told):
        written(STEPS, **how)
    with pytest.raises(ScrubError, match="no number"):
        written(STEPS, np.array([1.0, np.inf, 0.0]))
