"""Edges as the JSON that the viewers of attribution graphs read: circuit-tracer's, and neuronpedia's.

The format is made for features of transcoders, which our nodes are not. What those viewers ask for beyond the schema,
as their code has it (circuit-tracer's `frontend/assets/attribution_graph/util-cg.js` and `frontend/graph_models.py`,
neuronpedia's `app/[modelId]/graph/utils.ts` and `link-graph.tsx`), is kept here and said where it is:

- Nodes are told apart by `node_id`, and again by `LAYER_FEATURE_CTXIDX`: so `feature` is a number that no other
  component of the layer has. The schema allows null, but circuit-tracer calls `toString()` on it, and its own models
  want an integer.
- `layer` is made a number; the row in the picture follows from it, the embedding's being one below layer 0. The
  layer of a `logit` is replaced by one above the highest of the others; where that is 0, neuronpedia opens no graph.
- The label of a node of type `embedding` is replaced by the token at its position, and that of an error by another, so
  the embedding of all positions, which no one token is, has a type of its own and the layer -1, not `E`: that is the
  same row. Types that viewers don't know are drawn as circles, and have no page of examples.
- The label of a `logit` must have `(p=...)` in it, and its token between double quotes stands above the picture.
- circuit-tracer leaves out nodes that are on more than two thirds of the tokens: with one token, that is every node.
- neuronpedia reads `feature` as a pair of layer and index, and fetches its page, where `schema_version` is 1: it is
  left out. It fetches pages of gemma-2-2b and qwen3-4b in any case.
- neuronpedia draws everything of the model that it calls gpt2-small a row lower, so its layers are written one higher.
- Only links between pinned nodes are drawn at first, so nodes are pinned: at most 200, as many as it draws there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import count, groupby
from typing import Any

import numpy as np
from jaxtyping import Float

from scrub.data.examples import Examples
from scrub.models.model import Model
from scrub.paths.edges import EMB, OUT, Edge
from scrub.show.scored import EdgeScores, by_name, read_by, row_of
from scrub.study.metric import Metric
from scrub.text.errors import ScrubError
from scrub.text.fields import check_arguments
from scrub.text.frames import json_text
from scrub.text.numbers import unit_name
from scrub.text.version import __version__

HEAD, MLP, EMBEDDINGS, LOGIT = "attention head", "mlp", "embedding of all positions", "logit"  # types of nodes
LOWERED = {"gpt2-small"}  # models that neuronpedia draws a row lower
SCANS = {"gpt2": "gpt2-small"}  # what neuronpedia calls models otherwise than their hub does
PINNED = 200  # nodes that are drawn with their links at first


@check_arguments
def viewer_json(
    edges: Sequence[Edge],
    scores: Float[np.ndarray, " edge"] | None = None,
    *,
    model: str,
    slug: str,
    prompt_tokens: Sequence[str],
    prompt: str = "",
    position: int = -1,
    at: Mapping[str, int] | None = None,
    metric: str = "",
    unit: str = "",
    about: str = "",
) -> str:
    """Write edges, or steps of paths, as a graph of the components that they are between, for viewers of such graphs.

    `viewer_json(edges, scores, model="gpt2", slug="ioi", prompt_tokens=["When", " Mary"], metric="logit_diff")`.
    Every component is at `position`, where the output is scored, unless `at` has another for it. Edges between the same
    two components, such as those into q, k and v, are one link, whose weight is the sum of their scores, or 1 where
    there are none. Raises ScrubError for a position that the prompt hasn't, and a prompt of less than two tokens.
    """
    if len(prompt_tokens) < 2:
        raise ScrubError("the viewers draw no node of a prompt of less than two tokens: give a longer one")
    of = EdgeScores(edges, np.ones(len(edges)) if scores is None else scores, unit=unit)
    links: dict[tuple[str, str], float] = {}
    for edge, score in zip(of.edges, of.scores.tolist(), strict=True):
        ends = edge.sender, read_by(edge)[0]
        links[ends] = 1.0 if scores is None else links.get(ends, 0.0) + score
    places = {name: position for ends in links for name in ends} | dict(at or {})
    names, first = sorted({name for ends in links for name in ends}, key=by_name), int(model in LOWERED)
    nodes = _nodes(names, places, prompt_tokens, metric, first)
    ids = {name: node["node_id"] for name, node in nodes.items()}
    weight = (
        f"the sum of the scores of its edges{f', in {unit_name(unit)}' * bool(unit)}" if scores is not None else "1"
    )
    content = {
        "metadata": {
            "slug": slug,
            "scan": model,
            "transcoder_list": [],
            "prompt_tokens": list(prompt_tokens),
            "prompt": prompt or "".join(prompt_tokens),
            "info": {
                "description": _description(model, weight, bool(at), first, about),
                "generator": {"name": "scrub", "version": __version__},
            },
        },
        "qParams": {
            "linkType": "both",
            "pinnedIds": list(ids.values())[:PINNED],
            "supernodes": [],
            "clickedId": "",
            "sg_pos": "",
        },
        "nodes": list(nodes.values()),
        "links": [
            {"source": ids[below], "target": ids[above], "weight": value} for (below, above), value in links.items()
        ],
    }
    return json_text(content)


def viewed(
    edges: Sequence[Edge],
    scores: Sequence[float] | None,
    model: Model,
    examples: Examples,
    metric: Metric,
    about: str,
    unit: str = "",
) -> str:
    """Write edges of a model as :func:`viewer_json` does, on the tokens of the first of some examples.

    `viewed(edges, scores, model, examples, metric, "EAP", "logits")`. `unit` is that of the scores, where it is known:
    those of somebody's file may be of another metric. The output stands where that example is first scored.
    """
    row = int(np.flatnonzero(examples.counts)[0])
    end = int(examples.ends[row]) + 1
    tokens = list(model.strings(examples.tokens[row, :end]))
    values = None if scores is None else np.asarray(scores)
    return viewer_json(
        edges,
        values,
        model=SCANS.get(called := model.name.rpartition("/")[2], called),
        slug=f"{model.name}-{metric.name}".replace("/", "-"),
        prompt_tokens=tokens,
        position=int(np.flatnonzero(examples.scored[row])[0]),
        metric=metric.name,
        unit=unit,
        about=f"{about}.",
    )


def _description(model: str, weight: str, placed: bool, first: int, about: str) -> str:
    """Say what the nodes and links are: not what these viewers were made for."""
    where = ", unless another was given for it," if placed else ""
    said = (
        f"Nodes are components of {model}: attention heads, MLPs, the embedding and the output. They are no transcoder "
        "features, and pages of features that a viewer shows beside them are of other things. A link is what one "
        f"component reads of another, through any of q, k and v; its weight is {weight}. ctx_idx is{where} the "
        "position where the output is scored, whichever positions a component acts at: a node stands for all of them. "
        f"Layers count from {first}; the embedding is at {first - 1}. There are no probabilities: token_prob is 0 in "
        "all nodes. Neuronpedia opens no graph that has nothing above a layer with the number 0 but the output."
    )
    return f"{about} {said}".strip()


def _nodes(
    names: Sequence[str], places: Mapping[str, int], tokens: Sequence[str], metric: str, first: int
) -> dict[str, dict[str, Any]]:
    """Make the node of each component, from the embedding up; the first layer has the number `first`."""
    top = max([0, *(int(row_of(name).layer) for name in names if name != OUT)]) + 1
    found: dict[str, dict[str, Any]] = {}
    for layer, some in groupby(names, key=lambda name: row_of(name).layer):
        together = list(some)
        heads = {name: int(number) for name in together if (number := name.rpartition(".")[2]).isdecimal()}
        free = count(max(heads.values(), default=-1) + 1)
        for name in together:
            feature = heads[name] if name in heads else next(free)
            row = str(first + (top if np.isinf(layer) else int(layer)))
            found[name] = _node(name, row, feature, _place(places[name], name, tokens), metric)
    return found


def _place(position: int, name: str, tokens: Sequence[str]) -> int:
    if not -len(tokens) <= position < len(tokens):
        raise ScrubError(f"{name} can't be at position {position} of a prompt of {len(tokens)} tokens")
    return range(len(tokens))[position]


def _node(name: str, layer: str, feature: int, place: int, metric: str) -> dict[str, Any]:
    row = row_of(name)
    kind = LOGIT if name == OUT else EMBEDDINGS if name.startswith(EMB) else MLP if row.mlp else HEAD
    output = (metric or OUT).replace('"', "'")
    return {
        "node_id": f"{layer}_{feature}_{place}",
        "feature": feature,
        "layer": layer,
        "ctx_idx": place,
        "feature_type": kind,
        "token_prob": 0.0,
        "is_target_logit": name == OUT,
        "jsNodeId": f"{layer}_{feature}-{place}",
        "clerp": f'Output "{output}" (p=n/a)' if name == OUT else name,
    }
