"""Settings of a decoder that can't be, each refused in one line that names it."""

from __future__ import annotations

import re
from typing import Any

import pytest
from pydantic import ValidationError
from small import KINDS, small_decoder

from scrub.models.families.decoder import Config
from scrub.text.wording import first_mistake

TURN = {"width": 4, "base": 50.0}


@pytest.mark.parametrize(
    ("name", "change", "says"),
    [
        *(("llama", {"rotary": [{**TURN, "scaling": scaling}]}, "^rotary positions are scaled by .* above 0")
          for scaling in (0.0, -2.0, (0.0, 1.0, 4.0, 16.0), (8.0, 4.0, 4.0, 16.0), (8.0, 4.0, 1.0, 16.0),
                          (8.0, -1.0, 4.0, 16.0), (8.0, 1.0, 4.0, 0.0), (-8.0, 1.0, 4.0, 16.0))),
        ("arena", {"norms": "after"}, "norms are 'after', but norm is 'none'"),
        ("gemma2", {"norm": "none"}, "norms are 'both', but norm is 'none'"),
        ("arena", {"gated": True}, "gated is true, but d_mlp is null"),
        ("arena", {"parallel": True}, "parallel is true, but d_mlp is null"),
        ("gptj", {"d_mlp": None}, "parallel is true, but d_mlp is null"),
        ("llama", {"one_norm": True}, "one_norm: only a parallel MLP"),
        ("llama", {"n_kv_heads": 4}, "n_heads 6 can't share n_kv_heads 4"),
        ("llama", {"windows": [0]}, "one holds at least 1 position"),
        ("encoder", {"windows": [3]}, "causal is false, but windows are"),
        ("encoder", {"pad_token_id": 13}, "pad_token_id is 13, but tokens are 0 to 12"),
        ("encoder", {"tied": True}, "n_classes is 5: classes have no embedding"),
        ("encoder", {"n_classes": 1}, "'n_classes' is 1"),
        ("llama", {"rotary": [{"width": 6, "base": 50.0}]}, "turn 6 dimensions, but a head has 4"),
    ],
)  # fmt: skip
def test_settings_that_cannot_be_are_named(name: str, change: dict[str, Any], says: str) -> None:
    fields = small_decoder(name).config.model_dump()
    with pytest.raises(ValidationError) as raised:
        Config.model_validate({**fields, **change}, strict=False)
    said = first_mistake(raised.value)
    assert "\n" not in said
    assert re.search(says, said)


@pytest.mark.parametrize("name", KINDS)
def test_a_config_is_what_it_writes(name: str) -> None:
    config = small_decoder(name).config
    assert Config.model_validate_json(config.model_dump_json()) == config
