"""Attention-only models as TransformerLens saves them, and Redwood's: its own logits are ours."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from made import DIVERGED, OTHERS, TYPES, agree, fields_of, lens, lens_fields, misfit, refusal, write_fields, write_lens
from safetensors.torch import save_file
from tokenizers import Tokenizer, models
from wording import tells

from scrub.graph.node import walk
from scrub.models.checkpoints import open_checkpoint
from scrub.models.model import load_model, save_model
from scrub.text.errors import ScrubError

if TYPE_CHECKING:
    from transformer_lens import HookedTransformer

pytestmark = pytest.mark.filterwarnings("ignore:HookedTransformer is deprecated:DeprecationWarning")


def agrees(folder: Path, theirs: HookedTransformer) -> None:
    double = copy.deepcopy(theirs)
    double.cfg.dtype = torch.float64
    agree(folder, theirs, double.to(torch.float64, print_details=False))


def without_biases(theirs: HookedTransformer, *names: str) -> HookedTransformer:
    with torch.no_grad():
        for name, parameter in theirs.named_parameters():
            if name.rpartition(".")[2] in names:
                parameter.zero_()
    return theirs


ALL = ("b_Q", "b_K", "b_V", "b_O", "b_U")
POSITIONS = ["standard", "shortformer"]


@pytest.mark.parametrize("normalization", ["LN", "LNPre"])
@pytest.mark.parametrize("positions", POSITIONS)
def test_what_transformer_lens_saves(tmp_path: Path, positions: str, normalization: str) -> None:
    theirs = lens(positional_embedding_type=positions, normalization_type=normalization)
    write_lens(tmp_path, theirs)
    agrees(tmp_path, theirs)
    config = load_model(tmp_path).config
    assert (config.positions, config.biases) == (positions, ("q", "k", "v", "o", "unembed"))


@pytest.mark.parametrize("positions", POSITIONS)
@pytest.mark.parametrize("name", ["normalization", "normalization_type"])
def test_configs_as_their_author_has_them(tmp_path: Path, positions: str, name: str) -> None:
    theirs = lens(positional_embedding_type=positions)
    fields = {
        "n_layers": 2,
        "d_model": 7,
        "d_mlp": 28,
        "d_head": 5,
        "n_heads": 3,
        "n_ctx": 11,
        "d_vocab": 13,
        "act_fn": "solu",
        "attn_only": True,
        "architecture": "neel",
        name: "LN",
        "tokenizer_name": "EleutherAI/gpt-neox-20b",
        "seed": 3,
        "bos_token_id": 0,
        "roles": {"ind": [[1, 0]]},
        "data": "pile",
    }
    if positions == "shortformer":
        fields["shortformer_pos"] = True
    write_lens(tmp_path, theirs, fields)
    agrees(tmp_path, theirs)
    model = load_model(tmp_path)
    assert (model.roles, model.config.data, model.bos_token_id) == ({"ind": ((1, 0),)}, "pile", 0)
    save_model(model, tmp_path)
    assert load_model(tmp_path).config == model.config


@pytest.mark.parametrize("positions", POSITIONS)
@pytest.mark.parametrize("zero", [ALL, ("b_U",), ("b_O", "b_U"), ("b_Q", "b_V"), ("b_K", "b_O")], ids=str)
def test_biases_that_are_zero_are_left_out(tmp_path: Path, positions: str, zero: tuple[str, ...]) -> None:
    theirs = without_biases(lens(positional_embedding_type=positions), *zero)
    write_lens(tmp_path, theirs)
    agrees(tmp_path, theirs)
    model = load_model(tmp_path)
    left = tuple(kind for kind, name in zip(("q", "k", "v", "o", "unembed"), ALL, strict=True) if name not in zero)
    assert model.config.biases == left
    assert model.graph.op == ("unembed" if "b_U" in zero else "add_bias")
    assert model.graph.label == "out"
    assert [each.label for each in walk([model.graph]) if each.op == "unembed"] == ["out" if "b_U" in zero else None]


def test_one_layers_bias_is_enough_and_some_may_be_missing(tmp_path: Path) -> None:
    theirs = without_biases(lens(), *ALL)
    with torch.no_grad():
        theirs.blocks[1].attn.b_Q[2, 3] = 2.0
    write_lens(tmp_path, theirs)
    state = theirs.state_dict()
    for name in ("blocks.0.attn.b_Q", "unembed.b_U", "blocks.0.attn.mask"):
        del state[name]
    torch.save(state, tmp_path / "tiny_final.pth")
    agrees(tmp_path, theirs)
    assert load_model(tmp_path).config.biases == ("q",)


@pytest.mark.parametrize("zero", [(), ALL, ("b_U",)], ids=str)
def test_it_is_saved_in_our_own_layout(tmp_path: Path, zero: tuple[str, ...]) -> None:
    """Also in the folder that it came from: then that is what is loaded."""
    theirs = without_biases(lens(), *zero)
    model = load_model(write_lens(tmp_path, theirs))
    save_model(model, tmp_path)
    again = load_model(tmp_path)
    assert fields_of(tmp_path)["architecture"] == "attention_only"
    assert ("biases" in fields_of(tmp_path)) == (zero != ALL)
    assert again.config.biases == model.config.biases
    assert again.graph is model.graph
    assert all(value.equal(model.params[name]) for name, value in again.params.items())
    shapes = {"layers.1.bq": (3, 5), "layers.0.bv": (3, 5), "layers.0.bo": (7,), "unembed.bias": (13,)}
    assert zero or {name: tuple(again.params[name].shape) for name in shapes} == shapes


@pytest.mark.parametrize("name", ["a_final.pth", "weights.pth", "model.pt", "model.safetensors", "state.safetensors"])
def test_the_file_may_have_these_names(tmp_path: Path, name: str) -> None:
    theirs = lens()
    write_lens(tmp_path, theirs, name=name)
    if name.endswith(".safetensors"):
        save_file({key: value.contiguous() for key, value in theirs.state_dict().items()}, tmp_path / name)
    agrees(tmp_path, theirs)


def test_the_last_checkpoint_is_called_final(tmp_path: Path) -> None:
    theirs = lens()
    write_lens(tmp_path, theirs)
    torch.save(lens(seed=1).state_dict(), tmp_path / "tiny_1000.pth")
    agrees(tmp_path, theirs)
    (tmp_path / "tiny_final.pth").rename(tmp_path / "tiny_2000.pth")
    with pytest.raises(ScrubError) as caught:
        load_model(tmp_path)
    assert str(caught.value) == (
        "tiny_1000.pth, tiny_2000.pth are 2 files of weights, and no model.safetensors or "
        "model.safetensors.index.json says which: keep one, or bring the index of all"
    )


# the token in front


BEGIN = (
    "config.json has no field 'bos_token_id', and no tokenizer_config.json beside it says the token in front of "
    "every sequence: add the field"
)


def test_the_begin_token(tmp_path: Path) -> None:
    theirs = lens()
    fields = {name: value for name, value in lens_fields(theirs).items() if name != "bos_token_id"}
    write_lens(tmp_path, theirs, fields)
    assert tells(refusal(tmp_path), BEGIN)
    assert open_checkpoint(tmp_path, {"bos_token_id": 4}).config.bos_token_id == 4
    Tokenizer(models.WordLevel({f"t{i}": i for i in range(13)}, unk_token="t0")).save(str(tmp_path / "tokenizer.json"))
    for token in ("t5", {"content": "t5", "lstrip": False}):
        (tmp_path / "tokenizer_config.json").write_text(json.dumps({"bos_token": token}))
        assert load_model(tmp_path).bos_token_id == 5
        assert open_checkpoint(tmp_path, {"bos_token_id": 4}).config.bos_token_id == 4
    for content in ('{"bos_token": null}', '{"bos_token": "gone"}', "{}"):
        (tmp_path / "tokenizer_config.json").write_text(content)
        assert tells(refusal(tmp_path), BEGIN)
    (tmp_path / "tokenizer_config.json").write_text("[1]")
    assert tells(refusal(tmp_path), "tokenizer_config.json is no config of a tokenizer: expected a JSON object")
    write_fields(tmp_path, {**fields, "bos_token_id": 13})
    assert load_model(tmp_path).bos_token_id is None


# bad input

NO = "config.json is no config of a model of TransformerLens's that scrub reads: "
PLACES = "Input should be 'standard', 'shortformer' or 'rotary'"
KINDS = "Input should be 'LN', 'LNPre', 'RMS' or 'RMSPre'"
ACTS = "gelu, gelu_fast, gelu_new, gelu_pytorch_tanh, relu, silu, swish"
NO_HEAD = "config.json gives the role 'a' to head [0, 3], but layer 0 has no head 3: its heads are 0 to 2"
LAYER = "blocks.2.ln1.w, blocks.2.ln1.b, blocks.2.attn.W_Q and 3 more"
NORMS = "'blocks.0.ln1.b', 'blocks.0.ln1.w', 'blocks.1.ln1.b' and 3 more"
LOW = "NTK_by_parts_low_freq_factor"
WRONG = [
    ({"attn_only": False, "act_fn": "solu_ln"}, f"{NO}act_fn is 'solu_ln': scrub knows {ACTS}"),
    (
        {"attn_only": False},
        "tiny_final.pth misses blocks.0.ln2.w, blocks.0.ln2.b, blocks.0.mlp.W_in and 5 more, which ",
    ),
    ({"normalization_type": "BN"}, f"{NO}'normalization_type' is 'BN': {KINDS}"),
    ({"positional_embedding_type": "alibi"}, f"{NO}'positional_embedding_type' is 'alibi': {PLACES}"),
    ({"attention_dir": "sideways"}, f"{NO}'attention_dir' is 'sideways': Input should be 'causal' or 'bidirectional'"),
    ({"attention_dir": "bidirectional", "pad_token_id": 13}, "pad_token_id is 13, but tokens are 0 to 12"),
    ({"attn_scale": 0.0}, f"{NO}attn_scale is 0.0: expected a number above 0, or -1 for sqrt(d_head)"),
    ({"use_local_attn": True}, f"{NO}use_local_attn is True, but window_size is None: expected a number of positions"),
    ({"use_local_attn": True, "window_size": 3, "attn_types": ["local"]}, f"{NO}attn_types are 1, but n_layers is 2"),
    ({"use_normalization_before_and_after": True}, f"{NO}use_normalization_before_and_after is True: Trans"),
    ({"final_rms": True}, f"{NO}final_rms is True: expected False"),
    (
        {"n_key_value_heads": 2},
        "tiny_final.pth misses blocks.0.attn._W_K, blocks.0.attn._W_V, blocks.1.attn._W_K and 1",
    ),
    ({"rotary_dim": 3}, f"{NO}'rotary_dim' is 3: Input should be a multiple of 2"),
    ({"NTK_by_parts_low_freq_factor": 4.0}, f"{NO}{LOW} is as large as NTK_by_parts_high_freq_factor: expected less"),
    ({"d_vocab_out": 1}, f"{NO}d_vocab_out is 1: expected 2 classes or more, or -1 for the tokens"),
    ({"d_vocab_out": 2}, f"tiny_final.pth: unembed.W_U{misfit([7, 13], [7, 2])}"),
    *[
        ({name: value}, f"{NO}{name} is {value}: expected {plain}")
        for name, value, plain in [
            ("clip_qkv", 8.0, None),
            ("load_in_4bit", True, False),
            ("num_experts", 4, None),
            ("parallel_attn_mlp", True, False),
            ("post_embedding_ln", True, False),
            ("use_attention_sinks", True, False),
            ("use_dynamic_ntk_rope", True, False),
            ("use_logn_attn", True, False),
            ("use_yarn_rope", True, False),
        ]
    ],
    ({"n_layers": -2}, f"{NO}'n_layers' is -2: Input should be greater than or equal to 1"),
    ({"n_layers": 10**12}, f"{NO}'n_layers' is 1000000000000: Input should be less than or equal to 4096"),
    ({"eps": 0.0}, f"{NO}'eps' is 0.0: Input should be greater than 0"),
    ({"d_vocab": 14, "d_vocab_out": -1}, f"tiny_final.pth: embed.W_E{misfit([13, 7], [14, 7])}"),
    ({"n_layers": 3}, f"tiny_final.pth misses {LAYER}, which config.json beside it asks for: {OTHERS}"),
    (
        {"normalization_type": "LNPre"},
        f"tiny_final.pth holds {NORMS}, which config.json beside it has no place for: {OTHERS}",
    ),
    ({"roles": {"a": [[0, 3]]}}, NO_HEAD),
]


@pytest.mark.parametrize(("fields", "expected"), WRONG)
def test_a_config_that_is_wrong(tmp_path: Path, fields, expected: str) -> None:
    theirs = lens()
    write_lens(tmp_path, theirs, lens_fields(theirs, **fields))
    assert tells(refusal(tmp_path), expected)


@pytest.mark.parametrize("name", ["n_layers", "n_heads", "d_model", "d_head", "n_ctx", "normalization_type"])
def test_a_config_without_a_field(tmp_path: Path, name: str) -> None:
    theirs = lens()
    write_lens(tmp_path, theirs, {key: value for key, value in lens_fields(theirs).items() if key != name})
    said = name.removesuffix("_type")
    assert tells(refusal(tmp_path), f"{NO}the field '{said}' is missing")


BAD = [
    ("blocks.1.attn.W_Q", lambda t: t.mT, misfit([3, 5, 7], [3, 7, 5])),
    ("blocks.1.attn.b_Q", lambda t: t.T, misfit([5, 3], [3, 5])),
    ("unembed.W_U", lambda t: t.T, misfit([13, 7], [7, 13])),
    ("embed.W_E", lambda t: t.cfloat(), f" is stored as complex64: {TYPES}"),
    ("embed.W_E", lambda t: t.to(torch.float8_e4m3fn), f" is stored as float8_e4m3fn: {TYPES}"),
    ("embed.W_E", lambda t: t.long(), f" is stored as int64: {TYPES}"),
    ("unembed.b_U", lambda t: t * torch.nan, f" holds 13 of 13 {DIVERGED}"),
    ("pos_embed.W_pos", lambda t: t / 0, f" holds 77 of 77 {DIVERGED}"),
]


@pytest.mark.parametrize(("name", "change", "expected"), BAD)
def test_a_tensor_that_is_wrong(tmp_path: Path, name: str, change, expected: str) -> None:
    theirs = lens()
    write_lens(tmp_path, theirs)
    state = theirs.state_dict()
    torch.save({**state, name: change(state[name])}, tmp_path / "tiny_final.pth")
    assert tells(refusal(tmp_path), f"tiny_final.pth: {name}{expected}")


def test_a_model_with_mlps(tmp_path: Path) -> None:
    theirs = lens(attn_only=False, act_fn="gelu")
    write_lens(tmp_path, theirs, lens_fields(theirs, attn_only=True))
    assert tells(refusal(tmp_path), "tiny_final.pth holds 'blocks.0.ln2.b', 'blocks.0.ln2.w', ")


# Redwood's


def redwood(seed: int = 0) -> HookedTransformer:
    """The published model's heads, layers and vocabulary, narrow."""
    sizes = {"n_heads": 8, "d_head": 3, "d_model": 5, "d_vocab": 50259, "positional_embedding_type": "shortformer"}
    return without_biases(lens(seed, **sizes), "b_U")


def left_facing(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Every matrix as [out, in]."""
    return {name: value.mT if ".W_" in name else value for name, value in state.items()}


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("config", [None, "{}", '{"d_vocab": 5, "architecture": "neel", "attn_only": true}'])
def test_redwoods_model(tmp_path: Path, turned: bool, config: str | None) -> None:
    theirs = redwood()
    state = theirs.state_dict()
    torch.save(left_facing(state) if turned else state, tmp_path / "et_model_state_dict.pt")
    torch.save(torch.zeros(3, 11, dtype=torch.long), tmp_path / "validation_data.pt")
    if config is not None:
        (tmp_path / "config.json").write_text(config)
    agrees(tmp_path, theirs)
    model = load_model(tmp_path)
    assert (model.n_ctx, model.vocab_size, model.bos_token_id) == (11, 50259, 50257)
    assert model.config.positions == "shortformer"
    assert model.roles == {"prev": ((0, 0),), "self": ((0, 1), (0, 2), (0, 5)), "ind": ((1, 5), (1, 6))}
    assert model.graph.op == "unembed"
    other = open_checkpoint(tmp_path, {"roles": {"prev": [(1, 1)]}, "bos_token_id": 3, "data": "redwood"}).config
    assert (other.roles, other.bos_token_id, other.data) == ({"prev": [(1, 1)]}, 3, "redwood")


def test_a_model_saved_beside_redwoods_file_is_what_is_loaded(tmp_path: Path) -> None:
    torch.save(redwood().state_dict(), tmp_path / "et_model_state_dict.pt")
    model = load_model(tmp_path)
    place = model.params["pos.weight"] + 1
    save_model(replace(model, params={**model.params, "pos.weight": place}), tmp_path)
    assert load_model(tmp_path).params["pos.weight"].equal(place)


TAKE = "but it says how large the model is, with {} axes: take the file of the repository ArthurConmy/redwood_attn_2l"
AT_MOST, THIRD = "Input should be less than or equal to 4096", "blocks.2.ln1.b, blocks.2.attn.W_Q, blocks.2.attn.W_K"
NOT_REDWOODS = [
    ({"ln_final.w": None}, ": ln_final.w is not there, " + TAKE.format(1)),
    ({"embed.W_E": torch.zeros(3)}, ": embed.W_E is [3], " + TAKE.format(2)),
    ({"blocks.9999999.ln1.w": torch.zeros(5)}, f" is no model: 'n_layers' is 10000000: {AT_MOST}"),
    ({"ln_final.w": torch.zeros(0)}, " is no model: 'd_model' is 0: Input should be greater than or equal to 1"),
    ({"blocks.2.ln1.w": torch.zeros(5)}, f" misses {THIRD} and 2 more, which config.json beside it asks for: {OTHERS}"),
]


@pytest.mark.parametrize(("changes", "expected"), NOT_REDWOODS)
def test_a_file_that_is_not_redwoods(tmp_path: Path, changes, expected: str) -> None:
    state = {**redwood().state_dict(), **changes}
    torch.save({name: value for name, value in state.items() if value is not None}, tmp_path / "et_model_state_dict.pt")
    assert tells(refusal(tmp_path), "et_model_state_dict.pt" + expected)
