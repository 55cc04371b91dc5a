"""Parity of random GPT-2s: it holds, and whatever is wrong is found where it is."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from doubles import D_HEAD, HEADS, LAYERS, random_double
from fake_hub import Hub, serve
from huggingface_hub import constants
from safetensors.torch import load_file, save_file
from twins import Shape, made

import scrub
from scrub import GateError, Model, Parity, ScrubError, Settings, load_model
from scrub.measure.parity.parity import ROUNDINGS
from scrub.measure.parity.twin import read_twin
from scrub.models.checkpoints.layouts.hugging_face.llama import Mistral

VOCAB, POSITIONS, CONTEXT = 37, 19, 17
WIDTH = HEADS * D_HEAD
FEW = {"sequences": 3, "context": CONTEXT, "seed": 5, "progress": False}
EXACT = Settings(**FEW, dtype="float64")


@pytest.fixture(scope="module")
def theirs() -> Any:
    return random_double(VOCAB, POSITIONS).theirs


def broken(folder: Path, theirs: Any, change: Callable[[dict[str, torch.Tensor]], object]) -> Parity:
    """A model beside a twin that isn't it any more when transformers reads it."""
    theirs.save_pretrained(folder)
    ours = load_model(folder, torch.float64)
    file = folder / "model.safetensors"
    state = load_file(file)
    change(state)
    save_file(state, file, {"format": "pt"})
    return scrub.parity(ours, settings=EXACT)


def test_a_folder_and_what_is_in_memory_agree(theirs: Any, tmp_path: Path) -> None:
    theirs.save_pretrained(tmp_path)
    found = scrub.parity(tmp_path, settings=EXACT)
    found.check()
    assert (found.within, found.begins, found.computes_in, found.tolerance) == (True, None, "float64", 1e-9)
    frame = found.frame()
    heads = [f"a{layer}.{head}/pattern" for layer in range(LAYERS) for head in range(HEADS)]
    assert {*frame.value} == {*heads, *(f"stream {at}" for at in range(LAYERS + 1)), "out"}
    assert list(frame.value[: HEADS + 2]) == ["stream 0", *heads[:HEADS], "stream 1"]
    assert 0 < frame.deviation.max() < 1e-11
    said = json.loads(found.to_json())
    about = {"twin": "GPT2LMHeadModel", "dtype": "float64", "sequences": 3, "context": CONTEXT, "seed": 5}
    assert {**said, **about, "format": 1, "within": True, "begins": None, "tolerance": 1e-9} == said
    assert [row["value"] for row in said["rows"]] == list(frame.value)
    single = scrub.parity(theirs, settings=Settings(**FEW))  # itself, in its own type
    assert (single.within, single.computes_in, single.tolerance) == (True, "float32", 1e-4)
    assert 1e-9 < single.frame().relative.max() < 1e-4
    shown = repr(found).split("\n")
    assert shown[0].startswith(f"{tmp_path.name} beside transformers' GPT2LMHeadModel (")
    assert shown[0].endswith("), in float64")
    assert shown[1].startswith(f"on 3 sequences of {CONTEXT} random tokens, seed 5: ")
    assert shown[-1] == "all are within 1e-09, which is rounding in float64"


def test_deviations_are_the_largest_anywhere(theirs: Any, read_at_once: Callable[[int], None]) -> None:
    """On tokens that are given; beside plain hooks, and a twin with another embedding at one position."""
    tokens = np.random.default_rng(3).integers(VOCAB, size=(5, CONTEXT + 1))
    weight = theirs.transformer.wpe.weight
    before = weight.clone()
    ours = load_model(theirs, name="it")
    read_at_once(2)
    weight[6] += torch.linspace(-2, 3, WIDTH)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("scrub.measure.parity.parity.read_twin", lambda _: theirs)
            found = scrub.parity(ours, tokens, Settings(progress=False))
    finally:
        weight.copy_(before)
    first = found.begins
    assert first is not None
    assert (first.value, first.made_by, first.position) == ("stream 0", "the embedding", 6)
    assert first.absolute == pytest.approx(3, abs=1e-5)
    stream = theirs.transformer.wte.weight[tokens[:, :-1]] + before[:CONTEXT] + 0
    stream[:, 6] += torch.linspace(-2, 3, WIDTH)
    sizes = stream[:, 6].abs().amax(-1)
    assert first.relative == pytest.approx(float((3 / sizes).max()), abs=1e-5)
    assert first.sequence == int(sizes.argmin())
    assert found.on.startswith("tokens")
    apart = found.apart["stream 1"].relative[:, 0]
    assert apart.shape == (5, CONTEXT)
    assert (apart[:, :6] < 1e-5).all()
    assert (apart[:, 6:] > 1e-4).all()


def swap(state: dict[str, torch.Tensor]) -> None:
    """Heads 1 and 3 of layer 1 change places: what they do together stays the same."""
    order = torch.tensor([0, 3, 2, 1, 4])
    into, out = (f"transformer.h.1.attn.{name}" for name in ("c_attn", "c_proj"))
    for name in (f"{into}.weight", f"{into}.bias"):
        side = state[name].unflatten(-1, (3, HEADS, D_HEAD))
        state[name] = side[..., order, :].flatten(-3).contiguous()
    rows = state[f"{out}.weight"].unflatten(0, (HEADS, D_HEAD))
    state[f"{out}.weight"] = rows[order].flatten(0, 1).contiguous()


def test_swapped_heads_are_named(theirs: Any, tmp_path: Path) -> None:
    found = broken(tmp_path, theirs, swap)
    frame = found.frame().set_index("value")
    assert list(frame.index[~frame.within]) == ["a1.1/pattern", "a1.3/pattern"]
    assert frame.loc["out", "relative"] < 1e-11
    with pytest.raises(GateError) as caught:
        found.check()
    first = found.begins
    assert first is not None
    assert first.value in {"a1.1/pattern", "a1.3/pattern"}
    assert first.position > 0
    assert f"from layer 1 on: {first.value} is up to {first.absolute:.1e} apart" in str(caught.value)
    assert f"most at position {first.position} of sequence {first.sequence}, where 1e-09" in str(caught.value)
    other = ({"a1.1/pattern", "a1.3/pattern"} - {first.value}).pop()
    assert str(caught.value).endswith(f"allowed; so it is with {other}")
    assert json.loads(found.to_json())["begins"]["value"] == first.value
    lines = [line.split() for line in repr(found).split("\n")]
    (marked,) = (line for line in lines if "*" in line and line[0] != "those")
    assert marked[:2] + marked[-2:] == ["stream", "1", "*", first.value[1:4]]
    assert repr(found).endswith("those with * aren't within 1e-09, which is rounding in float64")


@pytest.mark.parametrize(
    ("tensor", "value", "made_by"),
    [
        ("h.1.mlp.c_fc.weight", "stream 2", "layer 1"),
        ("h.1.attn.c_proj.bias", "stream 2", "layer 1"),
        ("h.1.ln_1.weight", "pattern", "layer 1"),
        ("h.2.mlp.c_proj.weight", "stream 3", "layer 2"),
        ("wte.weight", "stream 0", "the embedding"),
        ("ln_f.bias", "out", "the final norm or the unembedding"),
    ],
)
def test_one_weight_is_found_where_it_is(tensor: str, value: str, made_by: str, theirs: Any, tmp_path: Path) -> None:
    found = broken(tmp_path, theirs, lambda state: state[f"transformer.{tensor}"].flatten()[3:4].add_(0.01))
    first = found.begins
    assert first is not None
    assert (first.value.rpartition("/")[2], first.made_by) == (value, made_by)
    frame = found.frame()
    begins = frame.index[~frame.within][0]
    assert frame.value[begins].rpartition("/")[2] == value
    assert (frame.relative[:begins] < 1e-11).all()


def test_what_is_no_number_never_passes(theirs: Any, tmp_path: Path) -> None:
    """It is the worst that there can be, of several heads too."""

    def spoil(state: dict[str, torch.Tensor]) -> None:
        query = state["transformer.h.1.attn.c_attn.bias"][:WIDTH].view(HEADS, D_HEAD)
        query[1, 0] += 1
        query[3, 0] = torch.nan

    found = broken(tmp_path, theirs, spoil)
    first = found.begins
    assert first is not None
    assert (first.value, first.made_by, first.within) == ("a1.3/pattern", "layer 1", False)
    assert json.loads(found.to_json())["begins"]["relative"] is None
    with pytest.raises(GateError, match=r"a1\.3/pattern is up to nan apart.*; so it is with a1\.1/pattern$"):
        found.check()
    (line,) = (line.split() for line in repr(found).split("\n") if line.startswith(" stream 1"))
    assert line[-3:] == ["-", "*", "1.3"]


@pytest.mark.parametrize(("dtype", "cast", "allowed"), [("float64", "float32", 1e-4), ("float32", "bfloat16", 1e-4)])
def test_what_transformers_casts_excuses_its_rounding_in_float64_alone(
    dtype: str, cast: str, allowed: float, theirs: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def casting(model: Model) -> Any:
        found = read_twin(model)
        mlp = found.transformer.h[1].mlp
        inner = mlp.forward
        mlp.forward = lambda x: inner(x.to(getattr(torch, cast)).to(x.dtype))
        return found

    theirs.save_pretrained(tmp_path)
    monkeypatch.setattr("scrub.measure.parity.parity.read_twin", casting)
    found = scrub.parity(tmp_path, settings=Settings(**FEW, dtype=dtype))
    assert (found.computes_in, found.tolerance, found.within) == ("float32", allowed, dtype == "float64")
    assert ("transformers computes some of it in float32, whatever" in repr(found)) == (dtype == "float64")
    assert found.frame().deviation.max() > 1e-9


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_in_16_bits_what_rounding_loses_is_allowed_and_no_more(dtype: torch.dtype) -> None:
    """Of large weights it is more than the tolerance; each value has its own, so that a mistake above is still seen."""
    torch.manual_seed(0)
    large = random_double(VOCAB, POSITIONS).theirs
    for parameter in large.parameters():
        parameter.mul_(3 if parameter.ndim == 2 else 1)
    large.to(dtype)
    before = {name: value.clone() for name, value in large.state_dict().items()}
    found = scrub.parity(large, settings=Settings(**FEW))
    found.check()
    frame = found.frame().set_index("value")
    assert (frame.relative > found.tolerance).any()
    assert frame.loc["stream 0", "allowed"] == found.tolerance
    assert f"which is rounding in {found.computes_in}, or {ROUNDINGS} times transformers' own" in repr(found)
    state = large.state_dict()
    assert all(state[name].dtype == dtype and torch.equal(state[name], value) for name, value in before.items())
    if dtype == torch.float16:  # which no setting asks for
        return
    ours = load_model(large, dtype, name="it")
    large.transformer.h[1].mlp.c_proj.bias[3] += 1000  # more than the stream is, which rounding never makes of it
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("scrub.measure.parity.parity.read_twin", lambda _: large)
        wrong = scrub.parity(ours, settings=Settings(**FEW, dtype="bfloat16"))
    assert wrong.begins is not None
    assert wrong.begins.value == "stream 2"


def test_what_transformers_would_make_up_isnt_compared(theirs: Any, tmp_path: Path) -> None:
    with pytest.raises(ScrubError, match=r"finds no weights in .* for transformer.h.1.ln_2.bias, and would make"):
        broken(tmp_path, theirs, lambda state: state.pop("transformer.h.1.ln_2.bias"))


def test_of_a_hub_id_the_files_that_were_brought_are_read_and_no_code_runs(
    theirs: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, hub = tmp_path / "gpt", Hub()
    theirs.save_pretrained(folder)
    fields = json.loads((folder / "config.json").read_text())
    fields["auto_map"] = {"AutoConfig": "code.Config", "AutoModelForCausalLM": "code.Mine"}
    (folder / "config.json").write_text(json.dumps(fields))
    (folder / "code.py").write_text("import pathlib\npathlib.Path('exploded').touch()\n")
    monkeypatch.chdir(tmp_path)
    hub.add("some-one/gpt", folder)
    with serve(hub) as address:
        monkeypatch.setattr(constants, "ENDPOINT", address)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        ours = load_model("some-one/gpt", torch.float64)
        asked = len(hub.asked)
        assert scrub.parity(ours, settings=EXACT).within
        assert scrub.parity(folder, settings=EXACT).within
        assert (len(hub.asked), Path("exploded").exists()) == (asked, False)


def test_another_model_is_a_failed_gate(theirs: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scrub.measure.parity.parity.read_twin", lambda _: random_double(VOCAB + 2, POSITIONS).theirs)
    with pytest.raises(GateError, match=r"out of it is \[3, 17, 37\], and \[3, 17, 39\] in transformers"):
        scrub.parity(load_model(theirs, name="it"), settings=Settings(**FEW))


def test_a_model_without_transformers_or_twin(theirs: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line each."""
    own = load_model(theirs)
    cases: list[tuple[Any, dict[str, Any], str]] = [
        ("attn2l", {}, "attn2l has no twin in transformers, as its config.json has no model_type"),
        (own, {}, "is from no folder that transformers could read"),
        ((theirs.config, theirs.state_dict()), {}, "is from no folder that transformers could read"),
        (theirs, {"dtype": "float64"}, "a model in memory is compared as it is: leave dtype out"),
        (theirs, {"dtype": "tf32"}, "transformers has no TF32"),
        (theirs, {"context": POSITIONS + 1}, f"reads at most {POSITIONS} tokens, not {POSITIONS + 1}"),
        (theirs, {"batch": 2}, "parity doesn't obey the setting 'batch'"),
        (torch.nn.Identity(), {}, "has no weights"),
    ]
    for model, settings, message in cases:
        with pytest.raises(ScrubError, match=message):
            scrub.parity(model, settings=Settings(progress=False, **settings))
    with pytest.raises(ScrubError, match="parity doesn't obey the setting 'sequences'"):
        scrub.parity(theirs, np.zeros((2, 5), int), Settings(sequences=3))
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ScrubError, match=r'isn\'t here: pip install "causal-scrub\[parity\]"'):
        scrub.parity("gpt2-mini")
    assert isinstance(own, Model)


def test_windows_that_are_longer_than_the_sequences_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """And a wrong one is found in the context that is named."""
    theirs = made("mistral", Shape(context=200), sliding_window=70)
    assert scrub.parity(theirs, settings=Settings(progress=False, context=71)).notes == []
    monkeypatch.setattr(Mistral, "windows", property(lambda self: [self.sliding_window + 1]))
    found = scrub.parity(theirs, settings=Settings(progress=False))
    assert found.within
    (note,) = found.notes
    assert note == "windows of 71 positions weren't reached, so that a wrong one isn't seen: --context 135"
    assert json.loads(found.to_json())["notes"] == [note]
    assert f"note: {note}" in repr(found)
    found = scrub.parity(theirs, settings=Settings(progress=False, context=135))
    assert (found.notes, found.within) == ([], False)
    assert (
        scrub.parity(made("mistral", Shape(context=70), sliding_window=70), settings=Settings(progress=False)).notes
        == []
    )  # it reads no more
