"""The model families that scrub can lower into a graph: one file each, found by looking at this folder.

A file has NAME (what config.json calls the family), Config (a :class:`ModelConfig`: what its config.json says)
and lower(config), which makes the graph: that of a decoder (decoder.py) with some settings. The parameters of the graph
say which tensors a checkpoint must have, and of which shapes; its attention components say which layers and heads a
role may name.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Mapping
from importlib import import_module
from types import ModuleType
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from scrub.paths.roles import mistake_in


class ModelConfig(BaseModel):
    """The fields of every family's config.json. Unknown fields are kept for people, and read by nobody."""

    model_config = ConfigDict(frozen=True, extra="allow", strict=True, allow_inf_nan=False)

    n_ctx: int = Field(ge=1)
    vocab_size: int = Field(ge=1)
    bos_token_id: int | None  # None: the model has no begin token
    roles: Mapping[str, list[tuple[int, int]]] = {}
    data: str | None = None  # what a study of this model takes unless other data are named
    bos_before_prompts: bool = True  # whether a prompt that is typed begins with the begin token, if there is one

    @field_validator("bos_token_id")
    @classmethod
    def _begins(cls, token: int | None, info: ValidationInfo) -> int | None:
        return known_token(token, info.data.get("vocab_size", 0))

    @model_validator(mode="after")
    def _consistent(self) -> ModelConfig:
        if wrong := mistake_in(self.roles):
            raise ValueError(wrong)
        return self


def known_token(token: int | None, vocab_size: int) -> int | None:
    """Give a token of the vocabulary, or None: -1, and what another vocabulary's configs are copied from, mean none."""
    return token if token is not None and 0 <= token < vocab_size else None


class TransformerConfig(ModelConfig):
    """The further fields of every transformer's config.json."""

    n_layers: int = Field(ge=1, le=4096)  # the file isn't trusted: every layer costs time before its tensors are missed
    n_heads: int = Field(ge=1, le=65536)
    d_model: int = Field(ge=1)
    d_head: int = Field(ge=1)
    layer_norm_eps: float = Field(gt=0)

    @property
    def shape(self) -> dict[str, Any]:
        """The fields that say of every transformer what its graph is."""
        return self.model_dump(include={*TransformerConfig.model_fields} - {"roles", "data", "bos_before_prompts"})


def family_of(config: ModelConfig) -> str:
    """Name the family that a config is of."""
    return next(name for name, family in architectures().items() if isinstance(config, family.Config))


def architectures() -> dict[str, ModuleType]:
    """List the families by name."""
    modules = (import_module(f"{__name__}.{found.name}") for found in pkgutil.iter_modules(__path__))
    return {module.NAME: module for module in modules}
