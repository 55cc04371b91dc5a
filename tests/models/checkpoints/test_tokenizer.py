"""A tokenizer as GPT-2 was published: vocab.json and merges.txt, instead of tokenizer.json."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made import gpt2, refusal
from tokenizers import ByteLevelBPETokenizer, Tokenizer
from wording import tells

from scrub.models.checkpoints import wanted_files
from scrub.models.checkpoints.tokenizer import read_tokenizer
from scrub.models.model import load_model, make_model, save_model
from scrub.text.errors import ScrubError

if TYPE_CHECKING:
    from transformers import GPT2Tokenizer

END = "<|endoftext|>"
TEXTS = [
    "the cat sat on the mat; the cats' hat, that's the one",
    "naïve café — ünïcödé, twice: naïve café",
    " \n\n\t 12 123 123",
]
SIZE = 301  # the 256 bytes, END, and 44 merges


@pytest.fixture(scope="module")
def trained() -> ByteLevelBPETokenizer:
    found = ByteLevelBPETokenizer()
    found.train_from_iterator(TEXTS, vocab_size=SIZE, min_frequency=1, special_tokens=[END], show_progress=False)
    return found


@pytest.fixture
def folder(tmp_path: Path, trained: ByteLevelBPETokenizer) -> Path:
    gpt2(vocab_size=SIZE).save_pretrained(tmp_path / "m")
    trained.save_model(str(tmp_path / "m"))
    return tmp_path / "m"


def tokenizer_of(folder: Path) -> Tokenizer:
    found = load_model(folder).tokenizer
    assert found is not None
    return found


@given(
    text=st.one_of(
        st.text(max_size=40), st.lists(st.sampled_from([*TEXTS, END, " ", "\u2028"]), max_size=5).map("".join)
    )
)
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_it_is_that_of_transformers(both: tuple[Tokenizer, GPT2Tokenizer], text: str) -> None:
    ours, theirs = both
    ids = ours.encode(text, add_special_tokens=False).ids
    assert ids == theirs(text, add_special_tokens=False)["input_ids"]
    assert ours.decode(ids, skip_special_tokens=False) == text


@pytest.fixture
def both(folder: Path) -> tuple[Tokenizer, GPT2Tokenizer]:
    from transformers import GPT2Tokenizer

    return tokenizer_of(folder), GPT2Tokenizer.from_pretrained(folder)


def test_lines_may_end_as_on_windows(folder: Path) -> None:
    before = tokenizer_of(folder).encode(TEXTS[0]).ids
    merges = folder / "merges.txt"
    merges.write_bytes(merges.read_bytes().replace(b"\n", b"\r\n"))
    assert tokenizer_of(folder).encode(TEXTS[0]).ids == before
    assert len(before) < len(TEXTS[0]), "something is merged"


def test_tokenizer_json_comes_first_and_is_what_is_saved(folder: Path, tmp_path: Path) -> None:
    loaded = load_model(folder)
    save_model(loaded, tmp_path / "saved")
    saved = tokenizer_of(tmp_path / "saved")
    assert saved.encode(TEXTS[1]).ids == tokenizer_of(folder).encode(TEXTS[1]).ids
    assert not (tmp_path / "saved" / "vocab.json").exists()
    (folder / "tokenizer.json").write_text("{}")
    assert tells(refusal(folder), "tokenizer.json is no tokenizer: ")


def test_one_of_the_two_files_is_no_tokenizer(folder: Path) -> None:
    (folder / "merges.txt").unlink()
    assert load_model(folder).tokenizer is None


def test_a_model_without_a_tokenizer_that_is_saved_there_has_none(folder: Path, tmp_path: Path) -> None:
    gpt2().save_pretrained(tmp_path / "other")
    save_model(load_model(tmp_path / "other"), folder)
    assert load_model(folder).tokenizer is None


BAD = {
    "no JSON": ("vocab.json", "{", "vocab.json is no JSON: "),
    "no object": ("vocab.json", "[1, 2]", "vocab.json is no tokenizer: "),
    "a number": ("vocab.json", "3", "vocab.json is no tokenizer: "),
    "ids that are text": ("vocab.json", '{"a": "0"}', "vocab.json is no tokenizer: "),
    "an id below zero": ("vocab.json", '{"a": -1}', "vocab.json is no tokenizer: "),
    "an id too large": ("vocab.json", '{"a": 99999999999999999999}', "vocab.json is no tokenizer: "),
    "a token twice": ("vocab.json", '{"a": 0, "a": 1}', "vocab.json is no JSON: "),
    "another vocabulary": ("vocab.json", json.dumps({"a": 0, "b": 1}), "vocab.json is no tokenizer: "),
    "merges of three": ("merges.txt", "#version: 0.2\nt h e\n", "vocab.json is no tokenizer: "),
    "merges of one": ("merges.txt", "the\n", "vocab.json is no tokenizer: "),
    "merges of strangers": ("merges.txt", "a \u4e16\n", "vocab.json is no tokenizer: "),
    "no text": ("merges.txt", b"\xff\xfe", "merges.txt is no text: byte 0 isn't UTF-8"),
}


@pytest.mark.parametrize(("name", "content", "message"), BAD.values(), ids=list(BAD))
def test_files_that_are_wrong(folder: Path, name: str, content: str | bytes, message: str) -> None:
    (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    assert tells(refusal(folder), message)


def test_a_vocabulary_of_another_size(folder: Path, tmp_path: Path) -> None:
    gpt2(vocab_size=SIZE - 1).save_pretrained(tmp_path / "m")
    says = "but config.json beside it says vocab_size 300: take the tokenizer that the model was trained with"
    assert tells(refusal(folder), f"vocab.json has {SIZE} tokens, {says}")


def test_it_is_brought_where_there_is_nothing_better() -> None:
    theirs = ["config.json", "model.safetensors", "vocab.json", "merges.txt"]
    assert wanted_files(theirs) == sorted(theirs)
    assert wanted_files([*theirs, "tokenizer.json"]) == ["config.json", "model.safetensors", "tokenizer.json"]
    assert wanted_files(theirs[:3]) == ["config.json", "model.safetensors"]
    beside = ["added_tokens.json", "special_tokens_map.json", "tokenizer_config.json"]
    assert wanted_files([*theirs, *beside]) == sorted([*theirs, *beside])


USER, BOT, KEPT = "<|user|>", "<|bot|>", "kept words"
SAID = {
    "added_tokens.json": {USER: SIZE, BOT: SIZE + 1, KEPT: SIZE + 2},
    "special_tokens_map.json": {
        "bos_token": END,
        "pad_token": {"content": BOT, "lstrip": False},
        "additional_special_tokens": [USER],
    },
    "tokenizer_config.json": {"tokenizer_class": "GPT2Tokenizer"},
}


def with_beside(folder: Path, said: dict[str, object]) -> Path:
    """The folder with an embedding of three tokens more, and files beside its vocabulary."""
    gpt2(vocab_size=SIZE + 3).save_pretrained(folder)
    for name, content in said.items():
        (folder / name).write_text(json.dumps(content))
    return folder


def decoder(**flags: bool) -> dict[str, object]:
    tokens = {str(SIZE + at): {"content": text, **flags} for at, text in enumerate((USER, BOT, KEPT))}
    return {"tokenizer_config.json": {"tokenizer_class": "GPT2Tokenizer", "added_tokens_decoder": tokens}}


@pytest.mark.parametrize("said", [SAID, decoder(special=True), decoder(special=True, lstrip=True, rstrip=True)])
def test_tokens_that_stand_beside_are_those_of_transformers(folder: Path, said: dict[str, object]) -> None:
    from transformers import AutoTokenizer

    ours, theirs = tokenizer_of(with_beside(folder, said)), AutoTokenizer.from_pretrained(folder)
    for text in (f"{USER} the cat{BOT}{END}", f" {USER}{USER} {BOT} sat ", "the hat"):
        ids = ours.encode(text, add_special_tokens=False).ids
        assert ids == theirs(text, add_special_tokens=False)["input_ids"]
    assert ours.token_to_id(BOT) == SIZE + 1
    assert len(ours.encode(KEPT).ids) == 1


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"added_tokens.json": {USER: SIZE + 1, BOT: SIZE, KEPT: SIZE + 9}}, f"'{KEPT}' would be the token {SIZE + 2}"),
        ({"added_tokens.json": {USER: "3"}}, f"added_tokens.json says no id of '{USER}'"),
        ({"added_tokens.json": [USER]}, "added_tokens.json is no file of a tokenizer"),
    ],
)
def test_tokens_beside_that_do_not_fit(folder: Path, said: dict[str, object], message: str) -> None:
    assert message in refusal(with_beside(folder, said))


def as_saved_by(folder: Path, model_type: object, called: str | None) -> Path:
    """The folder, whose files say another type of model (here, where nothing else of it is asked) and tokenizer."""
    (folder / "config.json").write_text(json.dumps({"model_type": model_type} if model_type else {}))
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": called} if called else {}))
    return folder / "vocab.json"


@pytest.mark.parametrize(
    ("model_type", "called"),
    [("phi", None), ("gptj", None), (None, None), ("phi", "CodeGenTokenizer"), ("llama", "GPT2TokenizerFast")],
)
def test_what_is_cut_as_gpt2_does(folder: Path, model_type: str | None, called: str | None) -> None:
    before = tokenizer_of(folder).encode(TEXTS[2]).ids
    assert read_tokenizer(as_saved_by(folder, model_type, called), SIZE).encode(TEXTS[2]).ids == before


@pytest.mark.parametrize(
    ("model_type", "called", "message"),
    [
        ("qwen2", "Qwen2Tokenizer", "is of a Qwen2Tokenizer"),
        ("gpt2", "Qwen2Tokenizer", "is of a Qwen2Tokenizer"),
        ("gpt2", "GPT2TokenizerOfMine", "is of a GPT2TokenizerOfMine"),
        ("llama", None, "is of a model of the type llama"),
        ([1], None, "is of a model of the type"),
    ],
)
def test_what_is_cut_in_another_way_is_refused(
    folder: Path, model_type: object, called: str | None, message: str
) -> None:
    with pytest.raises(ScrubError) as caught:
        read_tokenizer(as_saved_by(folder, model_type, called), SIZE)
    assert tells(str(caught.value), message)


def test_what_is_refused_can_be_saved_as_tokenizer_json(folder: Path) -> None:
    """As the error says; Qwen2's cuts single digits, and composes accents, as GPT-2's doesn't."""
    from transformers import AutoTokenizer, Qwen2Config, Qwen2ForCausalLM

    gpt2_ids = tokenizer_of(folder).encode(TEXTS[2]).ids
    sizes = {"hidden_size": 6, "intermediate_size": 5, "num_hidden_layers": 1, "num_attention_heads": 3}
    Qwen2ForCausalLM(Qwen2Config(vocab_size=SIZE, num_key_value_heads=1, **sizes)).save_pretrained(folder)
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "Qwen2Tokenizer"}))
    assert "AutoTokenizer.from_pretrained(F).save_pretrained(F)" in refusal(folder)
    AutoTokenizer.from_pretrained(folder).save_pretrained(folder)
    ours, theirs = tokenizer_of(folder), AutoTokenizer.from_pretrained(folder)
    for text in (*TEXTS, "cafe\u0301"):
        assert ours.encode(text).ids == theirs(text)["input_ids"]
    assert ours.encode(TEXTS[2]).ids != gpt2_ids


def test_a_blank_in_front_of_every_text(folder: Path) -> None:
    from transformers import AutoTokenizer

    said = {"tokenizer_class": "GPT2Tokenizer", "add_prefix_space": True}
    (folder / "tokenizer_config.json").write_text(json.dumps(said))
    ours, theirs = tokenizer_of(folder).encode("hat").ids, AutoTokenizer.from_pretrained(folder)("hat")["input_ids"]
    assert ours == theirs
    (folder / "tokenizer_config.json").unlink()
    assert ours != tokenizer_of(folder).encode("hat").ids


LONG = " ".join(TEXTS[0] for _ in range(9))


def padding(found: Tokenizer) -> None:
    found.enable_padding(pad_id=0, pad_token=END, length=500)


def truncation(found: Tokenizer) -> None:
    found.enable_truncation(3)


def both_of_them(found: Tokenizer) -> None:
    padding(found)
    truncation(found)


@pytest.mark.parametrize("switch", [padding, truncation, both_of_them])
@pytest.mark.parametrize("when", ["in the file", "before it is given", "after it was given"])
def test_neither_pads_nor_truncation_reach_a_model(
    folder: Path, tmp_path: Path, switch: Callable[[Tokenizer], None], when: str
) -> None:
    from transformers import PreTrainedTokenizerFast

    loaded = load_model(folder)
    own = Tokenizer.from_str(tokenizer_of(folder).to_str())
    right = own.encode(LONG).ids
    wrapped = PreTrainedTokenizerFast(tokenizer_object=own)
    if when != "after it was given":
        switch(own)
        switch(wrapped.backend_tokenizer)
    own.save(str(tmp_path / "m" / "tokenizer.json"))
    models = [
        load_model(folder),
        load_model(loaded, tokenizer=own),
        load_model(loaded, tokenizer=wrapped),
        make_model("mine", loaded.config, loaded.params, own),
    ]
    switch(own)
    switch(wrapped.backend_tokenizer)
    for model in models:
        assert model.tokenizer is not None
        first, _ = model.tokenizer.encode_batch([LONG, "the"])
        assert first.ids == right
    assert own.encode(LONG).ids != right, "what the user switched on stays on"
