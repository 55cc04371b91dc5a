"""GPT-2 in the layout of transformers: what it saves we read, and what we save it reads."""

from __future__ import annotations

import copy
import json
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from made import DIVERGED, OTHERS, SIZES, TYPES, agree, fields_of, gpt2, misfit, refusal, write_fields
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models
from wording import tells

from scrub.models.checkpoints import open_checkpoint
from scrub.models.checkpoints.checks import parameter_shapes
from scrub.models.families.gpt2 import Config
from scrub.models.model import load_model, lower, make_model, save_model
from scrub.text.errors import ScrubError

if TYPE_CHECKING:
    from transformers import GPT2LMHeadModel


def logits(model: GPT2LMHeadModel):
    return lambda tokens: model(tokens).logits


def agrees(folder: Path, theirs: GPT2LMHeadModel) -> None:
    agree(folder, logits(theirs), logits(copy.deepcopy(theirs).double()))


KINDS = {
    "as it is": {},
    "one head, one layer": {"n_layer": 1, "n_head": 1, "n_embd": 7},
    "untied": {"tie_word_embeddings": False},
    "narrow MLP": {"n_inner": 13},
    "exact gelu": {"activation_function": "gelu"},
    "relu": {"activation_function": "relu"},
    "gelu_fast": {"activation_function": "gelu_fast"},
    "gelu_pytorch_tanh": {"activation_function": "gelu_pytorch_tanh"},
    "coarse eps": {"layer_norm_epsilon": 0.3},
    "scaled by layer": {"n_layer": 3, "scale_attn_by_inverse_layer_idx": True},
    "unscaled": {"scale_attn_weights": False},
    "both": {"n_layer": 3, "scale_attn_weights": False, "scale_attn_by_inverse_layer_idx": True},
    "upcast": {"reorder_and_upcast_attn": True},
}


@pytest.mark.parametrize("fields", KINDS.values(), ids=KINDS)
def test_what_transformers_saves(tmp_path: Path, fields) -> None:
    theirs = gpt2(**fields)
    theirs.save_pretrained(tmp_path)
    # gelu_fast has sqrt(2 / pi) in ten digits, so its logits differ by about as much
    if fields.get("activation_function") != "gelu_fast":
        agrees(tmp_path, theirs)
    else:
        agree(tmp_path, logits(theirs), logits(gpt2(activation_function="gelu_new").double()))


@pytest.mark.parametrize("size", ["2KB", "9KB"])
def test_shards(tmp_path: Path, size: str) -> None:
    theirs = gpt2()
    theirs.save_pretrained(tmp_path, max_shard_size=size)
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 1
    assert not (tmp_path / "model.safetensors").exists()
    agrees(tmp_path, theirs)


def in_torch_files(folder: Path, theirs: GPT2LMHeadModel, shards: int) -> None:
    """The files that old versions of transformers save."""
    theirs.config.save_pretrained(folder)
    state, places = theirs.state_dict(), {}
    if shards == 1:
        torch.save(state, folder / "pytorch_model.bin")
        return
    for shard in range(shards):
        name = f"pytorch_model-{shard + 1:05}-of-{shards:05}.bin"
        part = {key: state[key] for at, key in enumerate(state) if at % shards == shard}
        places |= dict.fromkeys(part, name)
        torch.save(part, folder / name)
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))


@pytest.mark.parametrize("shards", [1, 3])
def test_files_of_torch(tmp_path: Path, shards: int) -> None:
    theirs = gpt2()
    in_torch_files(tmp_path, theirs, shards)
    agrees(tmp_path, theirs)


def test_safetensors_are_preferred(tmp_path: Path) -> None:
    theirs = gpt2()
    in_torch_files(tmp_path, gpt2(seed=1), 1)
    theirs.save_pretrained(tmp_path, max_shard_size="9KB")
    agrees(tmp_path, theirs)
    third = gpt2(seed=2)
    third.save_pretrained(tmp_path / "whole")
    (tmp_path / "whole/model.safetensors").rename(tmp_path / "model.safetensors")
    agrees(tmp_path, third)


def test_names_without_the_prefix_and_masks_as_the_first_checkpoints_have(tmp_path: Path) -> None:
    theirs = gpt2()
    theirs.save_pretrained(tmp_path)
    tensors = {name.removeprefix("transformer."): value for name, value in theirs.state_dict().items()}
    del tensors["lm_head.weight"]
    for at in range(2):
        tensors[f"h.{at}.attn.bias"] = torch.ones(1, 1, 11, 11, dtype=torch.bool).tril()
        tensors[f"h.{at}.attn.masked_bias"] = torch.tensor(-1e4)
    save_file(tensors, tmp_path / "model.safetensors")
    first = {**SIZES, "model_type": "gpt2", "layer_norm_epsilon": 1e-5, "bos_token_id": 1, "n_ctx": 1024}
    write_fields(tmp_path, first)
    agrees(tmp_path, theirs)


def test_a_tied_unembedding_may_be_there_twice_but_must_be_the_same(tmp_path: Path) -> None:
    theirs = gpt2()
    theirs.save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    same = tensors["transformer.wte.weight"].clone()
    save_file({**tensors, "lm_head.weight": same}, tmp_path / "model.safetensors")
    agrees(tmp_path, theirs)
    same[3, 2] += 1
    save_file({**tensors, "lm_head.weight": same}, tmp_path / "model.safetensors")
    assert refusal(tmp_path) == (
        "model.safetensors: lm_head.weight differs from transformer.wte.weight, but config.json beside it says that "
        "they are tied: set tie_word_embeddings to false if the model has both"
    )


# saving


def ours(dtype: torch.dtype = torch.float32, **fields):
    """A random GPT-2 of ours, with everything that a config may say."""
    sizes = {"n_layers": 2, "n_heads": 3, "d_head": 5, "d_model": 15, "d_mlp": 13, "n_ctx": 11, "vocab_size": 17}
    roles = {"prev": [(0, 1)], "ind": [(1, 0), (1, 2)]}
    said = {**sizes, "bos_token_id": 2, "layer_norm_eps": 1e-5, "roles": roles, "data": "stdlib", **fields}
    config = Config(**said, role_scores={"prev": [0.5]})
    generator = torch.Generator().manual_seed(3)
    params = {
        name: torch.randn(*shape, generator=generator).to(dtype)
        for name, shape in parameter_shapes(lower(config)).items()
    }
    tokenizer = Tokenizer(models.WordLevel({f"t{i}": i for i in range(17)}, unk_token="t0"))
    return make_model("tiny", config, params, tokenizer)


SAVED = {"as it is": {}, "untied": {"tied": False}, "relu": {"activation": "relu"}, "wide": {"d_mlp": 60, "data": None}}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("fields", SAVED.values(), ids=SAVED)
def test_a_round_trip_is_exact(tmp_path: Path, fields, dtype: torch.dtype) -> None:
    model = ours(dtype, **fields)
    save_model(model, tmp_path)
    for _ in range(2):
        loaded = load_model(tmp_path, dtype=dtype)
        assert (loaded.config, loaded.graph) == (model.config, model.graph)
        assert loaded.params.keys() == model.params.keys()
        assert all(value.equal(model.params[name]) for name, value in loaded.params.items())
        assert all(value.is_contiguous() for value in loaded.params.values())
        assert sorted(each.name for each in tmp_path.iterdir()) == [
            "config.json",
            "model.safetensors",
            "tokenizer.json",
        ]
        save_model(loaded, tmp_path)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("fields", SAVED.values(), ids=SAVED)
def test_transformers_reads_what_is_saved(tmp_path: Path, fields, dtype: torch.dtype, caplog) -> None:
    """In float32 whatever the tensors are stored in, with no key too many or too few, and without a warning."""
    from transformers import AutoModelForCausalLM, GPT2LMHeadModel
    from transformers.utils import logging

    logging.disable_progress_bar()
    save_model(ours(dtype, **fields), tmp_path)
    logger = logging.get_logger("transformers")
    logger.addHandler(caplog.handler)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        theirs, info = GPT2LMHeadModel.from_pretrained(tmp_path, output_loading_info=True)
        auto = AutoModelForCausalLM.from_pretrained(tmp_path)
    logger.removeHandler(caplog.handler)
    assert not any(info.values()), info
    assert [each.message for each in caplog.records] == []
    assert isinstance(auto, GPT2LMHeadModel)
    assert theirs.dtype == auto.dtype == torch.float32
    assert theirs.config.roles == {"prev": [[0, 1]], "ind": [[1, 0], [1, 2]]}
    agrees(tmp_path, theirs.eval())
    stored = load_file(tmp_path / "model.safetensors")
    assert {each.dtype for each in stored.values()} == {dtype}
    assert stored.keys() == {name for name in theirs.state_dict() if name != "lm_head.weight" or "tied" in fields}
    half = ours(dtype, **fields).to(torch.float32)
    assert all(value.equal(half.params[name]) for name, value in load_model(tmp_path).params.items())


def test_the_config_that_is_saved(tmp_path: Path) -> None:
    save_model(ours(d_mlp=60, data=None, roles={}), tmp_path)
    sizes = {"n_layer": 2, "n_head": 3, "n_embd": 15, "n_inner": None, "n_positions": 11, "vocab_size": 17}
    no_dropout = dict.fromkeys(("attn_pdrop", "embd_pdrop", "resid_pdrop"), 0.0)
    assert fields_of(tmp_path) == {
        "architectures": ["GPT2LMHeadModel"],
        "model_type": "gpt2",
        "dtype": "float32",
        "activation_function": "gelu_new",
        "layer_norm_epsilon": 1e-5,
        "tie_word_embeddings": True,
        "bos_token_id": 2,
        "eos_token_id": 2,
        "role_scores": {"prev": [0.5]},
        **sizes,
        **no_dropout,
    }


def test_what_people_and_transformers_add_is_kept(tmp_path: Path) -> None:
    gpt2(attn_pdrop=0.25, eos_token_id=5, summary_type="mean").save_pretrained(tmp_path)
    write_fields(tmp_path, {**fields_of(tmp_path), "roles": {"a": [[1, 2]]}, "data": "d", "role_scores": {"a": 1}})
    model = load_model(tmp_path)
    assert (model.roles, model.config.data) == ({"a": ((1, 2),)}, "d")
    save_model(model, tmp_path / "copy")
    before, after = fields_of(tmp_path), fields_of(tmp_path / "copy")
    plain = {"add_cross_attention": False, "scale_attn_by_inverse_layer_idx": False, "scale_attn_weights": True}
    assert {**after, **plain} == before


@pytest.mark.parametrize("said", [None, False, True])
def test_whether_prompts_begin_with_the_begin_token(tmp_path: Path, said: bool | None) -> None:
    """transformers' tokenizer of GPT-2 adds none, so that is what isn't said; what is said stays, through copies."""
    model = ours() if said is None else ours(bos_before_prompts=said)
    folder = tmp_path / "0"
    save_model(model, folder)
    for copy_of in range(2):
        assert fields_of(folder).get("bos_before_prompts") is (True if said else None)
        loaded = load_model(folder)
        assert loaded.config == model.config
        assert loaded.config.bos_before_prompts is bool(said)
        folder = tmp_path / str(copy_of + 1)
        save_model(loaded, folder)
    write_fields(folder, {**fields_of(folder), "bos_before_prompts": False})
    assert load_model(folder).config.bos_before_prompts is False


@pytest.mark.parametrize("wrong", ["yes", 1, None])
def test_no_answer_to_whether_prompts_begin_so(tmp_path: Path, wrong: object) -> None:
    save_model(ours(), tmp_path)
    write_fields(tmp_path, {**fields_of(tmp_path), "bos_before_prompts": wrong})
    assert "'bos_before_prompts' is " in refusal(tmp_path)


def test_a_gpt2_of_transformers_begins_prompts_as_they_are(tmp_path: Path) -> None:
    gpt2().save_pretrained(tmp_path)
    assert load_model(tmp_path).config.bos_before_prompts is False
    assert open_checkpoint(tmp_path, {"bos_before_prompts": True}).config.bos_before_prompts is True


def test_a_scale_is_folded_once(tmp_path: Path) -> None:
    theirs = gpt2(scale_attn_by_inverse_layer_idx=True, scale_attn_weights=False)
    theirs.save_pretrained(tmp_path)
    save_model(load_model(tmp_path), tmp_path / "copy")
    agree(tmp_path / "copy", logits(theirs), load_model(tmp_path / "copy", dtype=torch.float64))
    assert "scale_attn_weights" not in fields_of(tmp_path / "copy")


def test_heads_that_transformers_has_no_place_for(tmp_path: Path) -> None:
    with pytest.raises(ScrubError, match=r"3 heads of 4 .* 15"):
        save_model(ours(d_head=4), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_fields_that_are_said_elsewhere_win(tmp_path: Path) -> None:
    gpt2(bos_token_id=None, eos_token_id=None).save_pretrained(tmp_path)
    assert open_checkpoint(tmp_path).config.bos_token_id is None
    said = {"bos_token_id": 7, "roles": {"prev": [(0, 2)]}, "data": "other"}
    config = open_checkpoint(tmp_path, said).config
    assert (config.bos_token_id, config.roles, config.data) == (7, {"prev": [(0, 2)]}, "other")
    with pytest.raises(ScrubError, match="role 'prev'"):
        open_checkpoint(tmp_path, {**said, "roles": {"prev": [(2, 0)]}})
    assert open_checkpoint(tmp_path, {**said, "bos_token_id": 17}).config.bos_token_id is None


# bad input

NO_GPT2 = "config.json is no config of a model of the type gpt2 that scrub reads: "
NO_CONFIG = "config.json is no config of a model of the family gpt2: "
NO_LAYER = "config.json gives the role 'a' to head [2, 0], but the model has no layer 2: its layers are 0 to 1"
TOO_MANY = "model.safetensors holds " + ", ".join(
    f"'transformer.h.1.attn.{name}'" for name in ("c_attn.bias", "c_attn.weight", "c_proj.bias")
)
WRONG = [
    ({"n_embd": None}, f"{NO_GPT2}'n_embd' is None: Input should be a valid integer"),
    ({"n_embd": "15"}, f"{NO_GPT2}'n_embd' is '15': Input should be a valid integer"),
    ({"n_embd": -15}, f"{NO_GPT2}'n_embd' is -15: Input should be greater than or equal to 1"),
    ({"n_layer": 10**9}, f"{NO_GPT2}'n_layer' is 1000000000: Input should be less than or equal to 4096"),
    ({"n_head": 4}, f"{NO_GPT2}n_embd 15 can't be shared by n_head 4"),
    ({"n_inner": 0}, f"{NO_GPT2}'n_inner' is 0: Input should be greater than or equal to 1"),
    ({"add_cross_attention": True}, f"{NO_GPT2}'add_cross_attention' is True: Input should be False"),
    ({"layer_norm_epsilon": 0}, f"{NO_GPT2}'layer_norm_epsilon' is 0: Input should be greater than 0"),
    ({"bos_token_id": "17"}, f"{NO_GPT2}'bos_token_id' is '17': Input should be a valid integer"),
    ({"roles": {"a": [[0]]}}, f"{NO_CONFIG}the field 'roles.a.0.1' is missing"),
    ({"roles": {"a": [[2, 0]]}}, NO_LAYER),
    ({"data": 3}, f"{NO_CONFIG}'data' is 3: Input should be a valid string"),
    ({"n_layer": 1}, f"{TOO_MANY} and 9 more, which config.json beside it has no place for: {OTHERS}"),
    ({"n_positions": 10**9}, f"model.safetensors: transformer.wpe.weight{misfit([11, 15], [10**9, 15])}"),
    ({"n_positions": 10**15}, f"{NO_GPT2}'n_positions' is {10**15}: Input should be less than or equal to {2**31}"),
    (
        {"tie_word_embeddings": False},
        "model.safetensors misses lm_head.weight, and config.json beside it says that it isn't tied to the embedding",
    ),
]


@pytest.mark.parametrize(("fields", "expected"), WRONG)
def test_a_config_that_is_wrong(tmp_path: Path, fields, expected: str) -> None:
    gpt2().save_pretrained(tmp_path)
    write_fields(tmp_path, {**fields_of(tmp_path), **fields})
    assert tells(refusal(tmp_path), expected)


@pytest.mark.parametrize("name", ["mamba", "gpt2_", ["gpt2"], None])
def test_another_family(tmp_path: Path, name: object) -> None:
    gpt2().save_pretrained(tmp_path)
    write_fields(tmp_path, {**fields_of(tmp_path), "model_type": name})
    reads = "of Hugging Face's models, scrub reads gemma, gemma2, gemma3_text, gpt2, gpt_neo, "
    assert tells(refusal(tmp_path), f"config.json is of the model_type {name!r}: {reads}")


def test_an_activation_that_is_unknown(tmp_path: Path) -> None:
    gpt2(activation_function="silu").save_pretrained(tmp_path)
    assert tells(refusal(tmp_path), f"{NO_GPT2}'activation_function' is 'silu': Input should be 'gelu_new', ")


@pytest.mark.parametrize("name", ["n_layer", "n_head", "n_embd", "n_positions", "vocab_size", "layer_norm_epsilon"])
def test_a_config_without_a_field(tmp_path: Path, name: str) -> None:
    gpt2().save_pretrained(tmp_path)
    write_fields(tmp_path, {key: value for key, value in fields_of(tmp_path).items() if key != name})
    assert tells(refusal(tmp_path), f"{NO_GPT2}the field '{name}' is missing")


H = "transformer.h.0"
BAD = [
    (f"{H}.attn.c_attn.weight", lambda t: t.T, misfit([45, 15], [15, 45])),
    ("transformer.wte.weight", lambda t: t[:-1], misfit([16, 15], [17, 15])),
    (f"{H}.mlp.c_fc.weight", lambda t: t.to(torch.float8_e5m2), f" is stored as F8_E5M2: {TYPES}"),
    (f"{H}.mlp.c_fc.weight", lambda t: t.int(), f" is stored as I32: {TYPES}"),
    (
        f"{H}.attn.c_attn.weight",
        lambda t: t.index_fill(0, torch.tensor([3]), torch.nan),
        f" holds 45 of 675 {DIVERGED}",
    ),
    (f"{H}.attn.c_proj.bias", lambda t: t / 0, f" holds 15 of 15 {DIVERGED}"),
]


@pytest.mark.parametrize(("name", "change", "expected"), BAD)
def test_a_tensor_that_is_wrong(tmp_path: Path, name: str, change, expected: str) -> None:
    gpt2().save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    save_file({**tensors, name: change(tensors[name]).contiguous()}, tmp_path / "model.safetensors")
    assert tells(refusal(tmp_path), f"model.safetensors: {name}{expected}")


def test_a_tensor_too_many_or_too_few(tmp_path: Path) -> None:
    gpt2().save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    save_file({**tensors, "scores.weight": torch.zeros(2)}, tmp_path / "model.safetensors")
    assert (
        refusal(tmp_path)
        == f"model.safetensors holds 'scores.weight', which config.json beside it has no place for: {OTHERS}"
    )
    twice = {**tensors, "wpe.weight": torch.zeros(11, 15)}
    save_file(twice, tmp_path / "model.safetensors")
    assert tells(refusal(tmp_path), "model.safetensors holds 'transformer.wpe.weight', which config.json ")
    del tensors["transformer.wpe.weight"]
    save_file(tensors, tmp_path / "model.safetensors")
    assert tells(
        refusal(tmp_path), f"model.safetensors misses wpe.weight, which config.json beside it asks for: {OTHERS}"
    )


def test_no_weights(tmp_path: Path) -> None:
    gpt2().config.save_pretrained(tmp_path)
    how = "a model is a folder with config.json, model.safetensors and, if it reads text, tokenizer.json"
    assert refusal(tmp_path) == f"model.safetensors is not there: {how}"


def test_a_vocabulary_that_does_not_fit(tmp_path: Path) -> None:
    gpt2().save_pretrained(tmp_path)
    tokenizer = Tokenizer(models.WordLevel({f"t{i}": i for i in range(18)}, unk_token="t0"))
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    expected = "has 18 tokens, but config.json beside it says vocab_size 17"
    assert tells(refusal(tmp_path), f"tokenizer.json {expected}: ")
