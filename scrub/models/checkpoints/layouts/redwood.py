"""The two-layer attention-only model of Redwood's study of induction, as its hub repository has it.

One file of weights, `et_model_state_dict.pt`, with TransformerLens's names; its config.json, if there is one, isn't
read. What the tensors don't say is written here. Published with https://www.alignmentforum.org/posts/j6s9H9SHrEhEfuJnq
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

from pydantic import ValidationError

from scrub.models.checkpoints.layouts import Checkpoint, Container, transformer_lens
from scrub.models.checkpoints.layouts.transformer_lens.fields import Fields
from scrub.models.checkpoints.reading import TENSORS
from scrub.models.checkpoints.stored import StoredTensor, Where
from scrub.text.errors import ScrubError
from scrub.text.files import shown
from scrub.text.wording import first_mistake, short

NAME, RANK, WEIGHTS = "redwood", 2, "et_model_state_dict.pt"

_LAYER = re.compile(r"blocks\.(\d{1,9})\.")

KNOWN: dict[str, object] = {
    "roles": {"prev": [[0, 0]], "self": [[0, 1], [0, 2], [0, 5]], "ind": [[1, 5], [1, 6]]},
}


def claims(names: Collection[str], fields: Mapping[str, object]) -> bool:
    """Tell whether there is a file of this name, and no model of transformers that was saved beside it."""
    return WEIGHTS in names and not (TENSORS in names and "model_type" in fields)


def read(container: Container, fields: Mapping[str, object], overrides: Mapping[str, object]) -> Checkpoint:
    """Read the model, its sizes from the tensors. Raises ScrubError for anything that is wrong with them.

    The matrices may be the other way round, as [out, in], where their shapes tell.
    """
    del fields
    path, stored = container.tensors(WEIGHTS)
    said = _sizes(path, stored)
    expected = transformer_lens.shapes(said)
    upright = {name: _upright(each, expected.get(name, each.shape)) for name, each in stored.items()}
    begin = said.d_vocab - 2  # [BEGIN] is 50257: the tokenizer is GPT-2's, and [END] is the last
    return transformer_lens.read_state(path, path, upright, said, {"bos_token_id": begin, **KNOWN, **overrides})


def _sizes(path: Where, stored: Mapping[str, StoredTensor]) -> Fields:
    def shape(name: str, axes: int) -> list[int]:
        if name not in stored or len(stored[name].shape) != axes:
            found = short(list(stored[name].shape)) if name in stored else "not there"
            raise ScrubError(
                f"{shown(path)}: {name} is {found}, but it says how large the model is, with {axes} axes: "
                "take the file of the repository ArthurConmy/redwood_attn_2l"
            )
        return list(stored[name].shape)

    def other(name: str, axes: int) -> int:
        """Get the size of the last two axes that isn't d_model."""
        sizes = shape(name, axes)[-2:]
        return sizes[0] if sizes[1] == d_model else sizes[1]

    (d_model,) = shape("ln_final.w", 1)
    sizes: dict[str, Any] = {
        "n_layers": 1 + max((int(found[1]) for name in stored if (found := _LAYER.match(name))), default=0),
        "n_heads": shape("blocks.0.attn.W_Q", 3)[0],
        "d_model": d_model,
        "d_head": other("blocks.0.attn.W_Q", 3),
        "n_ctx": other("pos_embed.W_pos", 2),
        "d_vocab": other("embed.W_E", 2),
    }
    try:
        return Fields(**sizes, attn_only=True, normalization="LN", positional_embedding_type="shortformer", eps=1e-5)
    except ValidationError as error:
        raise ScrubError(f"{shown(path)} is no model: {first_mistake(error)}") from error


def _upright(each: StoredTensor, expected: tuple[int, ...]) -> StoredTensor:
    turned = (*each.shape[:-2], *each.shape[:-3:-1])
    if each.shape != expected and turned == expected:
        return replace(each, shape=turned, read=lambda: each.read().mT)
    return each
