"""The tokenizer that is made of a GGUF's metadata gives the ids that transformers' `gguf_file=` gives."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from written_gguf import SIZES, random_model, write_gguf

from scrub.models.checkpoints.single import open_single
from scrub.models.checkpoints.single.words import implied_merges
from scrub.text.errors import ScrubError

NAME = "m.gguf"
SPECIAL = ["<|end|>", "<|begin|>"]
LEARNED = (
    """The model's 12 words weren't 345 of 1984: they'll say "we've 2 apples", he'd said; I'm sure it's done!
def f(x):\n    return x ** 2  # déjà vu\n\n\n\tif x >= 10:\n\t\tprint('naïve', x/3)\r\n日本語
日本 ДОМ дом Straße  ½ 🎉🎉 ... --- ===
"""
    * 4
)
TEXTS = [
    "",
    "a",
    " a",
    "   a   b\n\n  c \n\t\t\r\n d  ",
    "I'M sure WE'VE 12 of 1234567 1,000.50 ²½ ٣٤ in x1984y",
    "  12   345 \n 7",
    "日本語の日本、ДОМ дом\u00a0Straße e\u0301 \u2581 _ \x00\x7f 🎉👩‍👩‍👧 \ufffd",
    "def f(x):\n    return x**2 if x>=10 else {'a': [1, 2]} // 3 /* ok */",
    "<|end|>x <|begin|> y<think>z</think><|end|",
    LEARNED,
]


@pytest.fixture(autouse=True)
def _empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def byte_level(*, bos: bool | None = None, eos: bool | None = None) -> Callable[[gguf.GGUFWriter], None]:
    """A small byte-level BPE with special tokens, and one that a user added."""
    learning = Tokenizer(models.BPE())
    learning.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    learning.train_from_iterator([LEARNED], trainers.BpeTrainer(vocab_size=500, initial_alphabet=alphabet))
    merges = [" ".join(pair) for pair in json.loads(learning.to_str())["model"]["merges"]]
    vocabulary = learning.get_vocab()
    tokens = [*SPECIAL, "<think>", *sorted(vocabulary, key=lambda token: vocabulary[token])]

    def write(writer: gguf.GGUFWriter) -> None:
        writer.add_tokenizer_model("gpt2")
        writer.add_token_list(tokens)
        writer.add_token_types([3, 3, 4, *[1] * (len(tokens) - 3)])
        writer.add_token_merges(merges)
        writer.add_eos_token_id(0)
        writer.add_bos_token_id(1)
        _flags(writer, bos, eos)

    return write


def pieces(*, bos: bool | None = None, eos: bool | None = None) -> Callable[[gguf.GGUFWriter], None]:
    """A small vocabulary of SentencePiece's kind, with a score for each token."""
    learning = Tokenizer(models.BPE())
    learning.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always", split=True)
    learning.train_from_iterator([LEARNED], trainers.BpeTrainer(vocab_size=200))
    vocabulary = learning.get_vocab()
    plain = sorted(vocabulary, key=lambda token: vocabulary[token])
    tokens = ["<unk>", "<s>", "</s>", *[f"<0x{byte:02X}>" for byte in range(256)], *plain, "<think>"]

    def write(writer: gguf.GGUFWriter) -> None:
        writer.add_tokenizer_model("llama")
        writer.add_token_list(tokens)
        writer.add_token_scores([0.0] * 259 + [-float(at) for at in range(len(plain) + 1)])
        writer.add_token_types([2, 3, 3, *[6] * 256, *[1] * len(plain), 4])
        writer.add_bos_token_id(1)
        writer.add_eos_token_id(2)
        writer.add_unk_token_id(0)
        _flags(writer, bos, eos)

    return write


def _flags(writer: gguf.GGUFWriter, bos: bool | None, eos: bool | None) -> None:
    if bos is not None:
        writer.add_add_bos_token(bos)
    if eos is not None:
        writer.add_add_eos_token(eos)


def written(*metadata: Callable[[gguf.GGUFWriter], None], model_type: str = "llama", size: int = 0) -> Path:
    tokens: list[int] = []

    def more(writer: gguf.GGUFWriter) -> None:
        for each in metadata:
            each(writer)
        found = writer.kv_data[0].get("tokenizer.ggml.tokens")
        tokens.append(len(found.value) if found else 37)

    more(gguf.GGUFWriter("counted", model_type))
    fields: dict[str, Any] = {"vocab_size": size or tokens[0], "tie_word_embeddings": True}
    return write_gguf(Path(NAME), random_model(model_type, **fields), more=more)


def same_ids() -> Tokenizer:
    from transformers import AutoTokenizer

    ours, theirs = open_single(Path(NAME)).tokenizer(), AutoTokenizer.from_pretrained(".", gguf_file=NAME)
    assert ours is not None
    for text in TEXTS:
        assert ours.encode(text).ids == theirs(text)["input_ids"], text
        plain = ours.encode(text, add_special_tokens=False).ids
        assert plain == theirs(text, add_special_tokens=False)["input_ids"]
        assert ours.decode(plain) == theirs.decode(plain, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    return ours


@pytest.mark.parametrize("pre", ["gpt-2", "smollm", "llama-bpe", "qwen2", "tekken"])
def test_byte_level_ids(pre: str) -> None:
    written(byte_level(), lambda writer: writer.add_tokenizer_pre(pre))
    ours = same_ids()
    assert ours.encode("<|begin|>a").ids[0] == 1
    assert [text for text in TEXTS if ours.decode(ours.encode(text).ids, skip_special_tokens=False) != text] == []


@pytest.mark.parametrize("bos", [None, False, True])
@pytest.mark.parametrize("eos", [None, True])
def test_begin_and_end_tokens(bos: bool | None, eos: bool | None) -> None:
    written(byte_level(bos=bos, eos=eos), lambda writer: writer.add_tokenizer_pre("gpt-2"))
    assert (same_ids().encode("a").ids[0] == 1) is bool(bos)
    written(pieces(bos=bos, eos=eos))
    ours = same_ids()
    assert (ours.encode("a").ids[0] == 1) is (bos is not False)
    assert (ours.encode("a").ids[-1] == 2) is bool(eos)


def test_ids_of_pieces_of_gemma() -> None:
    written(pieces(), model_type="gemma2")
    ours = same_ids()
    assert ours.decode(ours.encode("  a  b").ids) == "  a  b"


def test_a_llama_3_begins_prompts_though_its_file_says_nothing() -> None:
    written(byte_level(), lambda writer: writer.add_tokenizer_pre("llama-bpe"))
    assert open_single(Path(NAME)).fields["bos_before_prompts"] is True
    written(byte_level(bos=False), lambda writer: writer.add_tokenizer_pre("llama-bpe"))
    assert "bos_before_prompts" not in open_single(Path(NAME)).fields


@pytest.mark.parametrize(
    ("pre", "says"),
    [
        ("smollm", "several blanks before a digit are other tokens there"),
        (
            "qwen2",
            "composes letters and accents first (NFC), so that an accent that stands apart is other tokens there",
        ),
        ("llama-bpe", "takes what is a token by itself whole"),
        ("tekken", "takes what is a token by itself whole"),
    ],
)
def test_where_its_own_tokenizer_differs_it_is_said(pre: str, says: str) -> None:
    written(byte_level(), lambda writer: writer.add_tokenizer_pre(pre))
    (note,) = open_single(Path(NAME)).notes
    assert says in note
    written(byte_level(), lambda writer: writer.add_tokenizer_pre("gpt-2"))
    assert not open_single(Path(NAME)).notes


def test_merges_that_scores_imply() -> None:
    ids = {"a": 0, "b": 1, "ab": 2, "ba": 3, "aba": 4, "c": 5}
    scores = {"ab": -1.0, "ba": -2.0, "aba": 0.0, "c": 9.0}
    assert implied_merges(ids, scores) == [("ab", "a"), ("a", "ba"), ("a", "b"), ("b", "a")]


# what is wrong


def other(key: str, value: list[Any]) -> Callable[[gguf.GGUFWriter], None]:
    def write(writer: gguf.GGUFWriter) -> None:
        writer.kv_data[0].pop(f"tokenizer.ggml.{key}")
        writer.add_array(f"tokenizer.ggml.{key}", value)

    return write


BAD: dict[str, tuple[tuple[Callable[[gguf.GGUFWriter], None], ...], str]] = {
    "cut in an unknown way": (
        (byte_level(), lambda writer: writer.add_tokenizer_pre("mine")),
        f"{NAME} has a tokenizer that cuts texts as 'mine' does: scrub knows ",
    ),
    "cut in a way that isn't said": (
        (byte_level(),),
        f"{NAME} has a tokenizer that cuts texts as '' does: scrub knows ",
    ),
    "another kind": (
        (lambda writer: writer.add_tokenizer_model("bert"),),
        f"{NAME} has a tokenizer of the kind 'bert': scrub knows gpt2, llama; give a tokenizer, as in load_model(",
    ),
    "a token twice": (
        (pieces(), other("tokens", ["a", "b", "a"])),
        f"{NAME} has the token 'a' twice, as 0 and 2: take another copy",
    ),
    "no scores": ((pieces(), other("scores", [0.0])), f"{NAME} says tokenizer.ggml.scores [0.0]: expected a number "),
    "merges of three": (
        (byte_level(), lambda writer: writer.add_tokenizer_pre("gpt-2"), other("merges", ["a b c"])),
        f"{NAME} says tokenizer.ggml.merges 'a b c': expected two tokens with a blank between them; take another copy",
    ),
    "merges of no tokens": (
        (byte_level(), lambda writer: writer.add_tokenizer_pre("gpt-2"), other("merges", ["aq zz"])),
        f"{NAME} has no tokenizer that can be made (",
    ),
    "texts that are none": (
        (byte_level(), lambda writer: writer.add_tokenizer_pre("gpt-2"), other("tokens", [1, 2])),
        f"{NAME} says tokenizer.ggml.tokens [1, 2]: expected a list of texts; take another copy",
    ),
}


@pytest.mark.parametrize("which", BAD)
def test_what_is_wrong_with_a_tokenizer_is_one_line(which: str) -> None:
    metadata, expected = BAD[which]
    found = open_single(written(*metadata))
    with pytest.raises(ScrubError) as caught:
        found.tokenizer()
    (line,) = str(caught.value).splitlines()
    assert line.startswith(expected)


def test_a_tokenizer_of_another_model() -> None:
    found = open_single(written(pieces(), size=SIZES["vocab_size"]))
    with pytest.raises(ScrubError, match=r"m\.gguf has \d+ tokens, but its embedding says vocab_size 37: take"):
        found.tokenizer()
