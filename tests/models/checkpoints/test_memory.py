"""Models in memory: a transformers object, or a config and a state dict of any layout, is what its files would be."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from made import SIZES, gpt2, lens, lens_fields, refused, write_lens
from tokenizers import Tokenizer, models
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast
from wording import tells

import scrub
from scrub.models.families import attention_only
from scrub.models.model import Model, load_graph, load_model, lower, make_model, save_model
from scrub.study.run import prepare
from scrub.study.settings import Settings
from scrub.training.parameters import initial_parameters

KINDS: dict[str, dict[str, Any]] = {
    "as it is": {},
    "untied": {"tie_word_embeddings": False},
    "narrow MLP": {"n_inner": 13, "activation_function": "relu"},
    "scaled": {"n_layer": 3, "scale_attn_weights": False, "scale_attn_by_inverse_layer_idx": True},
}
TOKENS = torch.randint(17, (3, 11), generator=torch.Generator().manual_seed(5))


def same(one: Model, other: Model) -> None:
    """The same parameters, bit by bit, on the same graph."""
    assert one.graph is other.graph
    assert one.params.keys() == other.params.keys()
    for name, value in one.params.items():
        assert torch.equal(value, other.params[name]), name


@pytest.mark.parametrize("fields", KINDS.values(), ids=KINDS)
def test_a_transformers_object(tmp_path: Path, fields: dict[str, Any]) -> None:
    """Its logits in float64, and the parameters of its files."""
    theirs = gpt2(**fields)
    theirs.save_pretrained(tmp_path)
    for dtype in (torch.float32, torch.float64):
        same(load_model(theirs, dtype), load_model(tmp_path, dtype))
    double = copy.deepcopy(theirs).double()
    found = load_model(double, torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(found(TOKENS), double(TOKENS).logits, rtol=0, atol=1e-12)
    assert load_graph(theirs)[0] is found.graph
    assert found.folder is None


def test_a_config_and_a_state_dict(tmp_path: Path) -> None:
    """However the config is given; and GPT2Model alone, whose tensors have no prefix."""
    theirs = gpt2()
    expected = load_model(theirs)
    fields = {**SIZES, "model_type": "gpt2", "bos_token_id": 1, "layer_norm_epsilon": 1e-5}
    for config in (theirs.config, theirs.config.to_dict(), fields):
        same(load_model((config, theirs.state_dict())), expected)
    same(load_model(theirs.transformer), expected)
    save_model(expected, tmp_path)
    same(load_model(tmp_path), expected)


def small() -> Model:
    """A random attention-only model."""
    sizes = {"n_layers": 2, "n_heads": 3, "d_model": 7, "d_head": 5, "n_ctx": 11, "vocab_size": 13, "bos_token_id": 2}
    config = attention_only.Config(**sizes, positions="shortformer", layer_norm_eps=1e-5, roles={"ind": [(1, 2)]})
    return make_model("small", config, initial_parameters(lower(config), seed=0))


def test_scrubs_own_layout_and_transformer_lens(tmp_path: Path) -> None:
    own = small()
    for config in (own.config, {"architecture": "attention_only", **own.config.model_dump(mode="json")}):
        found = load_model((config, own.params))
        same(found, own)
        assert found.roles == {"ind": ((1, 2),)}
    theirs = lens()
    same(load_model((lens_fields(theirs), theirs.state_dict())), load_model(write_lens(tmp_path, theirs)))


def test_names(tmp_path: Path) -> None:
    theirs = gpt2()
    assert load_model(theirs).name == "GPT2LMHeadModel"
    assert load_model(theirs, name="mine").name == "mine"
    assert load_model((theirs.config, theirs.state_dict())).name == "gpt2"
    assert load_model((small().config, small().params), name="own").name == "own"
    theirs.save_pretrained(tmp_path / "kept")
    assert load_model(GPT2LMHeadModel.from_pretrained(tmp_path / "kept")).name == "kept"
    theirs.config.name_or_path = "openai-community/gpt2"
    assert load_model(theirs).name == "openai-community/gpt2"
    assert load_model(load_model(theirs), name="mine").name == "mine"


def words(count: int) -> Tokenizer:
    return Tokenizer(models.WordLevel({f"w{at}": at for at in range(count)}, unk_token="w0"))


def test_tokenizers() -> None:
    theirs, tokenizer = gpt2(), words(17)
    assert load_model(theirs).tokenizer is None
    own = load_model(theirs, tokenizer=tokenizer).tokenizer
    assert own is not None
    assert own is not tokenizer
    assert own.to_str() == tokenizer.to_str()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer)
    found = load_model(theirs, tokenizer=fast).tokenizer
    assert found is not None
    assert found.get_vocab() == tokenizer.get_vocab()
    for given, says in (
        (words(18), "the tokenizer has 18 tokens, but the model's config says vocab_size 17"),
        (3, "3 is"),
    ):
        assert tells(refused(theirs, tokenizer=given), says)


class Counted(TorchDispatchMode):
    """Counts the bytes of the floating-point values that are made, but for what `isfinite` looks at for a moment."""

    def __init__(self) -> None:
        super().__init__()
        self.made, self._seen = 0, set[int]()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        del types
        known = {each.untyped_storage().data_ptr() for each in args if isinstance(each, Tensor)}
        found = function(*args, **(kwargs or {}))
        for each in found if isinstance(found, tuple | list) else [found]:
            if isinstance(each, Tensor) and each.is_floating_point() and function is not torch.ops.aten.abs.default:
                self.made += 0 if each.untyped_storage().data_ptr() in known else each.untyped_storage().nbytes()
        return found


@pytest.mark.parametrize("fields", [{}, {"tie_word_embeddings": False}])
def test_weights_are_copied_once(fields: dict[str, Any]) -> None:
    """And are the model's own then: whoever trains theirs on doesn't change it."""
    theirs = gpt2(**fields)
    with Counted() as counted:
        found = load_model(theirs)
    size = sum(value.nbytes for value in found.params.values())
    assert size <= counted.made <= 1.01 * size
    before = {name: value.clone() for name, value in found.params.items()}
    with torch.no_grad():
        for each in theirs.parameters():
            each.mul_(2)
    assert all(torch.equal(value, before[name]) for name, value in found.params.items())


def test_a_study_on_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever a name goes: the same numbers as of its files."""
    monkeypatch.chdir(tmp_path)
    theirs = gpt2()
    theirs.config.roles = {"ind": [[1, 0]]}
    theirs.save_pretrained(tmp_path / "models" / "kept")
    hypothesis = scrub.Hypothesis("k  **/a*.ind/k/** -> y", name="mine", study="gpt2_induction")
    tokens = np.random.default_rng(0).integers(17, size=(7, 12))
    settings = Settings(dtype="float64", progress=False, positions="all")
    one, other = (prepare(hypothesis, each, tokens, settings).run() for each in (theirs, "kept"))
    assert (one.model, other.model) == ("GPT2LMHeadModel", "kept")
    assert all(np.array_equal(value, other.loss[name]) for name, value in one.loss.items())


def changed(**tensors: Any) -> tuple[GPT2Config, dict[str, Any]]:
    """A GPT-2 with other tensors, or without some."""
    theirs = gpt2()
    state = dict(theirs.state_dict())
    for name, value in tensors.items():
        state.pop(f"transformer.{name}.weight", None)
        if value is not None:
            state[f"transformer.{name}.weight"] = value
    return theirs.config, state


def test_a_tied_table_under_either_of_its_names() -> None:
    """Files hold what is shared once, under one of its names, which may be the unembedding's."""
    tokens = torch.arange(11)[None]
    torch.testing.assert_close(load_model(changed(wte=None))(tokens), load_model(changed())(tokens), rtol=0, atol=0)


def with_fields(**fields: Any) -> tuple[dict[str, Any], Mapping[str, Any]]:
    theirs = gpt2()
    return {**theirs.config.to_dict(), **fields}, theirs.state_dict()


STATE, BOTH, WHOLE = "the state dict of gpt2", "the two belong to different models", torch.ones(11, 15)
MISTAKES: dict[str, tuple[Callable[[], object], str]] = {
    "a number": (lambda: 3, "3 is no model: give a name, a path, OWNER/NAME on the hub, a transformers model such as"),
    "nothing": (lambda: None, "None is no model"),
    "a state dict alone": (lambda: gpt2().state_dict(), "is no model"),
    "a triple": (lambda: (1, {}, 2), "(1, {}, 2) is no model"),
    "a config that is none": (lambda: (3, {}), "the config of model is 3: give the fields of a config.json"),
    "a field of no JSON": (lambda: with_fields(device=torch.device("cpu")), "the config of gpt2 has a field that no"),
    "a field that is no number": (lambda: with_fields(eps=float("nan")), "the config of gpt2 is no JSON: NaN is no"),
    "with images": (
        lambda: with_fields(model_type="gemma3", text_config={}),
        "the text's part, gemma3_text, which is its text_config",
    ),
    "another model": (lambda: with_fields(model_type="mamba"), "the config of mamba is of the model_type 'mamba'"),
    "no layout": (lambda: ({"n": 1}, {}), "the config of model has no field 'architecture': scrub knows"),
    "a field that is wrong": (
        lambda: with_fields(n_head=0),
        "the config of gpt2 is no config of a model of the type gpt2",
    ),
    "no such head": (lambda: with_fields(roles={"ind": [[2, 0]]}), "the config of gpt2 gives the role 'ind'"),
    "one missing": (lambda: changed(wpe=None), f"{STATE} misses wpe.weight, which its config asks for: {BOTH}"),
    "one too many": (lambda: changed(wxe=WHOLE), f"{STATE} holds 'transformer.wxe.weight', which its config"),
    "another shape": (lambda: changed(wpe=WHOLE.T), "is [15, 11], but its config asks for [11, 15]: the two"),
    "whole numbers": (lambda: changed(wpe=WHOLE.long()), "is stored as int64"),
    "no number": (lambda: changed(wpe=WHOLE * torch.nan), f"{STATE}: transformer.wpe.weight holds 165 of"),
    "an array": (lambda: changed(wpe=WHOLE.numpy()), f"{STATE} holds something else than tensors by name: give what"),
    "no values": (lambda: changed(wpe=WHOLE.to("meta")), f"{STATE} has transformer.wpe.weight on the meta device"),
    "a head of its own": (
        lambda: (gpt2().config, {**gpt2().state_dict(), "lm_head.weight": torch.ones(17, 15)}),
        "tied",
    ),
    "an object": (lambda: SimpleNamespace(config=3, state_dict=dict), "the config of SimpleNamespace is 3"),
}


@pytest.mark.parametrize(("spec", "says"), MISTAKES.values(), ids=MISTAKES)
def test_mistakes_are_one_line(spec: Callable[[], object], says: str) -> None:
    assert tells(refused(spec()), says)


def test_a_type_that_cant_hold_it() -> None:
    assert "can't hold: load it as float32" in refused(changed(wpe=WHOLE * 1e30), dtype=torch.float16)
