"""scrub's own layout: config.json names the family, and model.safetensors has the parameters of its graph.

For the attention-only family it doesn't change: `embed.weight` [vocab, d_model], `pos.weight` [n_ctx, d_model],
`layers.L.ln.weight` and `.bias` [d_model], `layers.L.wq`, `.wk`, `.wv` [n_heads, d_head, d_model], `layers.L.wo`
[n_heads, d_model, d_head], `final_ln.weight` and `.bias`, `unembed.weight` [vocab, d_model]; and, where config.json's
`biases` names them, `layers.L.bq`, `.bk`, `.bv` [n_heads, d_head], `layers.L.bo` [d_model], `unembed.bias` [vocab].
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import torch
from torch import Tensor

from scrub.models.checkpoints.checks import (
    Shapes,
    check_config,
    check_tensors,
    parameter_shapes,
    read_values,
    without_fields,
)
from scrub.models.checkpoints.layouts import Checkpoint, Container
from scrub.models.checkpoints.reading import TENSORS
from scrub.models.checkpoints.stored import StoredTensor, Where
from scrub.models.families import ModelConfig, architectures

NAME, RANK, WEIGHTS = "own", 1, None
FAMILIES = None  # those that no other layout is for


def claims(names: Collection[str], fields: Mapping[str, object]) -> bool:
    """Tell whether config.json names a family of scrub's."""
    del names
    return fields.get("architecture") in list(architectures())


def read(container: Container, fields: Mapping[str, object], overrides: Mapping[str, object]) -> Checkpoint:
    """Read a model; its tensors must be exactly the graph's. Raises ScrubError for anything that is wrong with it."""
    family = architectures()[str(fields["architecture"])]
    config = check_config(container.config, family, {**without_fields(fields, ["architecture"]), **overrides})
    graph = family.lower(config)
    return Checkpoint(
        config, graph, lambda dtype: read_tensors(*container.tensors(TENSORS), parameter_shapes(graph), dtype)
    )


def read_tensors(
    where: Where, stored: Mapping[str, StoredTensor], shapes: Shapes, dtype: torch.dtype
) -> dict[str, Tensor]:
    """Read tensors, which must be exactly those of `shapes`, in `dtype`.

    Raises ScrubError if one is missing or there is one too many, or if one has another shape, isn't stored as a type
    that a checkpoint may hold, holds a NaN or an infinity, or has values that `dtype` can't hold.
    """
    check_tensors(where, stored, shapes)
    return {name: read_values(stored[name], dtype) for name in shapes}


def write(
    family: str, config: ModelConfig, params: Mapping[str, Tensor]
) -> tuple[dict[str, object], Mapping[str, Tensor]]:
    """Make the fields of config.json, without those that say nothing, and the tensors."""
    said = config.model_dump(mode="json", exclude_defaults=True)
    roles = config.model_dump(mode="json", include={"roles"})
    return {"architecture": family, **said, **roles}, params
