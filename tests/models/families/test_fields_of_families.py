"""Which fields of a config.json act: those that the family's class in transformers reads, which is the oracle here."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import save_file
from twins import CONTEXT, LINEAR, LLAMA3, VOCAB, made

from scrub.models.model import load_graph, load_model
from scrub.text.errors import ScrubError

TOKENS = torch.randint(VOCAB, (3, CONTEXT), generator=torch.Generator().manual_seed(1))
SIZES = {
    "vocab_size": VOCAB,
    "hidden_size": 60,
    "intermediate_size": 37,
    "num_hidden_layers": 4,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "max_position_embeddings": CONTEXT,
    "pad_token_id": 0,
}
SHARED = {name: value for name, value in SIZES.items() if name != "num_key_value_heads"}
ALIASED = {name: value for name, value in SHARED.items() if name != "intermediate_size"}
SLIDES = {"sliding_window": 5, "layer_types": ["sliding_attention"] * 4}
GEMMA3 = {"head_dim": 10, "sliding_window": 5, "num_hidden_layers": 6}
OWN = {
    "full_attention": {"rope_type": "default", "rope_theta": 99.0},
    "sliding_attention": {"rope_type": "default", "rope_theta": 7.0},
}
UNTIED = {name: value for name, value in LLAMA3.items() if name != "original_max_position_embeddings"}
YARN = {"rope_type": "yarn", "factor": 4.0}


def write(folder: Path, name: str, fields: dict[str, Any]) -> Path:
    shared = ("gpt_neox", "gptj", "gpt_neo", "gpt2")
    sizes = {"gpt_neox": SHARED, "gptj": ALIASED, "gpt_neo": ALIASED, "gpt2": ALIASED} if name in shared else {}
    (folder / "config.json").write_text(json.dumps({"model_type": name, **sizes.get(name, SIZES), **fields}))
    return folder


READ = {
    "rope_scaling wins": ("llama", {"rope_scaling": LINEAR, "rope_parameters": {"rope_type": "default"}}),
    "and keeps no theta": ("llama", {"rope_scaling": {"type": "linear", "factor": 3.0}, "rope_parameters": LLAMA3}),
    "an original length above": ("llama", {"rope_scaling": UNTIED, "original_max_position_embeddings": 8}),
    "parts that say the whole": ("llama", {"partial_rotary_factor": 1.0}),
    "Gemma 1 has no layer types": ("gemma", {"head_dim": 10, **SLIDES}),
    "OLMo 2 neither": ("olmo2", SLIDES),
    "Llama neither": ("llama", SLIDES),
    "Gemma 3's full layers are scaled": ("gemma3_text", {**GEMMA3, "rope_parameters": OWN, "rope_scaling": LINEAR}),
    "some of its bases": ("gemma3_text", {**GEMMA3, "rope_theta": 55.0, "rope_local_base_freq": 33.0}),
    "a cap of its logits": ("gemma3_text", {**GEMMA3, "final_logit_softcapping": 3.0}),
    "OLMo 3's full layers are scaled": ("olmo3", {"sliding_window": 5, "rope_parameters": OWN, "rope_scaling": LINEAR}),
    "OLMo 3's own bases": ("olmo3", {"sliding_window": 5, "rope_parameters": OWN}),
    "NeoX's names": ("gpt_neox", {"rotary_pct": 0.4, "rotary_emb_base": 500, "rope_theta": 500.0}),
    "NeoX's scaling": ("gpt_neox", {"rotary_pct": 0.4, "rope_scaling": LINEAR}),
    "Phi's part": ("phi", {"partial_rotary_factor": 0.4, "rope_scaling": LINEAR}),
    "GPT-J by other names": ("gptj", {"rotary_dim": 4}),
    "GPT-J, tied": ("gptj", {"rotary_dim": 4, "tie_word_embeddings": True}),
    "GPT-Neo by other names": ("gpt_neo", {"attention_types": [[["global", "local"], 2]], "window_size": 5}),
    "GPT-2 by other names": ("gpt2", {"layer_norm_epsilon": 1e-5}),
}


@pytest.mark.parametrize(("name", "fields"), READ.values(), ids=READ)
def test_what_transformers_makes_of_it(tmp_path: Path, name: str, fields: dict[str, Any]) -> None:
    config = transformers.AutoConfig.from_pretrained(write(tmp_path, name, fields))
    torch.manual_seed(3)
    theirs = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
    with torch.no_grad():
        for each in theirs.parameters():
            each.copy_(torch.randn(each.shape) / (each.shape[1] ** 0.5 if each.ndim > 1 else 2))
        right = theirs(TOKENS).logits
    heads = ("lm_head.weight", "embed_out.weight") if config.tie_word_embeddings else ()
    state = {name: value.contiguous() for name, value in theirs.state_dict().items() if name not in heads}
    save_file(state, tmp_path / "model.safetensors")
    torch.testing.assert_close(load_model(tmp_path)(TOKENS), right, rtol=0, atol=1e-4 * float(right.abs().max()))


HUGE = 10**400
REFUSED = [
    ("llama", {"rope_scaling": YARN, "rope_parameters": LINEAR}, "rope_type 'yarn' isn't known"),
    ("gemma3_text", {**GEMMA3, "rope_scaling": YARN, "rope_parameters": OWN}, "rope_type 'yarn' isn't known"),
    ("olmo3", {"rope_scaling": YARN, "rope_parameters": OWN}, "rope_type 'yarn' isn't known"),
    ("olmo3", {"rope_scaling": {"type": "linear", "factor": 3.0}}, "rope: type is 'linear', but rope_type, which is "),
    *(
        (name, {part: value}, f"partial_rotary_factor is 0.5, but heads of {name} turn as a whole")
        for name in ("llama", "mistral", "qwen2", "qwen3", "gemma2", "olmo", "olmo2", "smollm3")
        for part, value in (("partial_rotary_factor", 0.5), ("rope_scaling", {"partial_rotary_factor": 0.5}))
    ),
    ("olmo3", {"partial_rotary_factor": 0.5}, "partial_rotary_factor is 0.5, but heads of olmo3 turn as a whole"),
    (
        "llama",
        {"rope_scaling": LLAMA3, "original_max_position_embeddings": 8},
        "original_max_position_embeddings is 8, but that of the scaling is 16",
    ),
    *(
        (name, {"rope_parameters": OWN}, "rope_parameters has its own for 'full_")
        for name in ("llama", "gemma2", "phi")
    ),
    *((name, {"rope_parameters": LINEAR}, f"rope_parameters of {name} are told") for name in ("gemma3_text", "olmo3")),
    ("gemma3_text", {"attn_logit_softcapping": 5.0}, "'attn_logit_softcapping' is 5.0: Input should be None"),
    ("gemma2", {"sliding_window": None}, "layers are of the type sliding_attention, but the config says no sliding"),
    ("qwen2", SLIDES, "layers are of the type sliding_attention, but the config says no sliding_window for them"),
    ("olmo3", {"rope_theta": 777.0}, "rope_theta 777.0 is that of the layers of the type full_attention alone"),
    ("gpt_neox", {"rope_theta": 77.0}, "rope_theta is 77.0, but what is read is 10000.0: set rotary_emb_base"),
    ("gpt_neox", {"rotary_pct": 0.4, "partial_rotary_factor": 0.8}, "partial_rotary_factor is 0.8, by which other "),
    ("gpt_neox", {"head_dim": 12}, "'head_dim' is 12: Input should be None"),
    ("gpt_neox", {"rotary_pct": 0.3}, "rotary_pct 0.3 of a head of 10 dimensions is 3: expected an even"),
    ("phi", {"partial_rotary_factor": 0.1}, "partial_rotary_factor 0.1 of a head of 10 dimensions is 1: expected"),
    ("llama", {"head_dim": 7}, "the width of a head is 7: expected an even number up to 7"),
    ("llama", {"rope_scaling": {"rope_type": ["x"]}}, "rope_type ['x'] isn't known"),
    ("llama", {"rope_scaling": {"rope_type": {}, "factor": 2.0}}, "rope_type {} isn't known"),
    ("llama", {"rope_scaling": {"type": None, "factor": 2.0}}, "rope_type None isn't known"),
    ("llama", {"rope_theta": HUGE}, ""),
    ("llama", {"rope_scaling": {"rope_theta": HUGE}}, "rope: rope_theta is 1000"),
    ("gemma2", {"query_pre_attn_scalar": HUGE}, ""),
    *(("gemma2", {name: HUGE}, f"{name!r} is 1000") for name in ("head_dim", "hidden_size", "vocab_size")),
    ("gptj", {"n_layer": 4, "num_hidden_layers": 5}, "n_layer is 4, but num_hidden_layers, another name for it, is 5"),
    ("gptj", {"n_embd": 13, "hidden_size": 13}, "n_embd 13 can't be shared by n_head 6"),
    (
        "gpt_neo",
        {"hidden_size": 13, "attention_types": [[["local"], 4]]},
        "hidden_size 13 can't be shared by num_heads",
    ),
    ("gpt_neo", {}, "attention_types are of 8 layers, but num_layers is 4"),
    ("gpt_neox", {"hidden_size": 13}, "hidden_size 13 can't be shared by num_attention_heads 6"),
]


@pytest.mark.parametrize(("name", "fields", "expected"), REFUSED)
def test_what_would_not_act_is_refused(tmp_path: Path, name: str, fields: dict[str, Any], expected: str) -> None:
    with pytest.raises(ScrubError) as caught:
        load_graph(write(tmp_path, name, fields))
    message = str(caught.value)
    assert f"config.json is no config of a model of the type {name} that scrub reads: {expected}" in message
    assert "\n" not in message


def test_a_wide_head_takes_no_memory_before_its_tensors_are_there(tmp_path: Path) -> None:
    write(tmp_path, "gptj", {"hidden_size": 10**7, "num_attention_heads": 1, "rotary_dim": 64})
    tracemalloc.start()
    with pytest.raises(ScrubError, match=r"model\.safetensors is not there"):
        load_graph(tmp_path)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 10**8


@pytest.mark.parametrize(("said", "end"), [([58, 59], 58), (57, 57), ([], 1), (None, 1), (-1, 1), ([3, 999, 3], 3)])
def test_the_first_of_several_end_tokens_stands_between_documents_and_each_stops(
    tmp_path: Path, said: object, end: int
) -> None:
    made("llama").save_pretrained(tmp_path)
    fields = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**fields, "eos_token_id": said}))
    model = load_model(tmp_path)
    assert model.end_token_id == end
    assert model.stop_token_ids == {"[58, 59]": (58, 59), "57": (57,), "[3, 999, 3]": (3,)}.get(str(said), ())


@pytest.mark.parametrize("name", ["gptj", "phi", "llama"])
def test_a_model_without_its_head_is_told_so(tmp_path: Path, name: str) -> None:
    theirs = made(name)
    theirs.base_model.save_pretrained(tmp_path)
    with pytest.raises(ScrubError) as caught:
        load_model(tmp_path)
    advice = ", or set tie_word_embeddings to true if it shares the embedding" if name == "llama" else ""
    assert str(caught.value).endswith(
        "model.safetensors misses lm_head.weight, and config.json beside it says that it isn't tied to the embedding: "
        f"take a model that has its language model's head{advice}"
    )
