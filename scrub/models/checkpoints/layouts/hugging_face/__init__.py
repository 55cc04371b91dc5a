"""Models as transformers has them, and saves them: `save_pretrained`, in one file or in shards.

config.json says the model_type: fields.py has its config's fields, with transformers' defaults, and what they mean for
a decoder; tensors.py where its parameters are.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import partial
from types import ModuleType

from pydantic import ValidationError
from torch import Tensor

from scrub.models.checkpoints.checks import (
    check_config,
    check_tensors,
    parameter_shapes,
    without_fields,
    without_further_heads,
)
from scrub.models.checkpoints.layouts import Checkpoint, Container
from scrub.models.checkpoints.layouts.hugging_face import gemma, gpt2, gpt_neo, gptj, llama, neox, phi
from scrub.models.checkpoints.layouts.hugging_face.fields import Fields
from scrub.models.checkpoints.stored import Where
from scrub.models.checkpoints.tensors import (
    BUFFERS,
    From,
    check_tied,
    read_params,
    without_prefix,
)
from scrub.models.families import ModelConfig, decoder
from scrub.text.errors import ScrubError
from scrub.text.files import shown
from scrub.text.wording import first_mistake, short

NAME, RANK, WEIGHTS = "hugging_face", 3, None
FAMILIES = (gpt2.FAMILY.NAME,)

_TYPES: dict[str, tuple[ModuleType, type[Fields]]] = {
    name: (module, fields)
    for module in (gpt2, llama, gemma, neox, gptj, phi, gpt_neo)
    for name, fields in module.TYPES.items()
}
# that say nothing of the computation, and would be wrong where such a model is saved in another layout
_THEIRS = ("model_type", "architectures", "auto_map", "dtype", "torch_dtype", "transformers_version", "use_cache")


def claims(names: Collection[str], fields: Mapping[str, object]) -> bool:
    """Tell whether config.json has a model_type."""
    del names
    return "model_type" in fields


def read(container: Container, fields: Mapping[str, object], overrides: Mapping[str, object]) -> Checkpoint:
    """Read a model. Raises ScrubError for anything that is wrong with its config or tensors, or isn't known."""
    fields = _with_one_end(fields)
    module, said, settings = _said(container.config, {**fields, **overrides})
    people = module.for_people(fields, said) if hasattr(module, "for_people") else _for_people(fields, said)
    config = check_config(container.config, module.FAMILY, {**people, **settings, **overrides})
    graph = module.FAMILY.lower(config)
    table = module.table(config, said)
    sources = {name: table[name] for name in parameter_shapes(graph)}
    shapes = {each.name: each.shape for each in sources.values() if isinstance(each, From)}
    embedding, head = (table[name].name for name in ("embed.weight", "unembed.weight"))
    unembedding = {head: shapes[embedding]}
    weights, found = container.tensors(None)
    stored, left_out = without_further_heads(weights, found, unembedding)
    called = getattr(module, "RENAMED", {})
    shorter = {without_prefix(name, module.PREFIX, stored): each for name, each in stored.items()}
    named = {called.get(name, name): each for name, each in shorter.items()}
    tensors = {name: each for name, each in named.items() if not BUFFERS.fullmatch(name)}
    if head not in shapes and head in tensors and embedding not in tensors:  # one of two names was saved
        tensors[embedding] = tensors.pop(head)
    check_tensors(weights, tensors, shapes, unembedding, head)
    if head not in shapes:
        check_tied(tensors, embedding, head)
    return Checkpoint(config, graph, partial(read_params, sources, tensors), left_out)


def write(
    family: str, config: ModelConfig, params: Mapping[str, Tensor]
) -> tuple[dict[str, object], Mapping[str, Tensor]]:
    """Make the fields of config.json and the tensors of a GPT-2. Raises ScrubError as :func:`gpt2.write` does."""
    del family
    return gpt2.write(config, params)


def _said(path: Where, fields: Mapping[str, object]) -> tuple[ModuleType, Fields, dict[str, object]]:
    """Read the fields that change the computation, and make the family's of them.

    Raises ScrubError for a family or a value that isn't known.
    """
    name = fields["model_type"]
    if not isinstance(name, str) or name not in _TYPES:
        part = ", of one with images too the text's part, gemma3_text, which is its text_config" * (name == "gemma3")
        raise ScrubError(
            f"{shown(path)} is of the model_type {short(name)}: of Hugging Face's models, scrub reads "
            f"{', '.join(sorted(_TYPES))}{part}"
        )
    module, kind = _TYPES[name]
    try:
        said = kind.model_validate(fields)
        return module, said, said.settings()
    except (ValueError, OverflowError) as error:  # what no float can hold
        why = first_mistake(error) if isinstance(error, ValidationError) else str(error)
        raise ScrubError(f"{shown(path)} is no config of a model of the type {name} that scrub reads: {why}") from error


def _with_one_end(fields: Mapping[str, object]) -> dict[str, object]:
    """Take the first of several end tokens: that of documents; each of them ends what a model writes."""
    ends = fields.get("eos_token_id")
    if not (isinstance(ends, list) and ends):
        return dict(fields)
    return {"stop_token_ids": ends, **fields, "eos_token_id": ends[0]}


def _for_people(fields: Mapping[str, object], said: Fields) -> dict[str, object]:
    """Take the fields that are kept as they are: roles, and what people add, but no setting of ours."""
    ours = {*decoder.Config.model_fields} - {*ModelConfig.model_fields}
    return without_fields(fields, [*said.names(), *_THEIRS, *ours])
