"""llama2.c's files: tensors are those of the Llama that was written, ids those of its own greedy merging."""

import random
import struct
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from written_gguf import interleaved, random_model

import scrub
from scrub.cli import _status
from scrub.models.checkpoints.single import open_single
from scrub.models.checkpoints.single.content import Single
from scrub.models.model import load_model
from scrub.models.place import own_config
from scrub.text.errors import ScrubError

NAME, WORDS = "m.bin", "tok37.bin"
HEADER = struct.Struct("<7i")
REFERENCE = Path(__file__).parents[4] / "shared/reference/stories260K"  # beside the checkout
STORY = (
    "Once upon a time, there was a little girl named Lily. She loved to play outside in the park. "
    "One day, she saw a big, red ball."
)


@pytest.fixture(autouse=True)
def _empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def llama(tied: bool) -> Any:
    return random_model("llama", tie_word_embeddings=tied, rms_norm_eps=1e-5)


def write(theirs: Any, path: Path = Path(NAME)) -> Path:
    """Write a Llama as llama2.c's export does, version 0."""
    c, state = theirs.config, {name: value.numpy() for name, value in theirs.state_dict().items()}
    heads = {"q": c.num_attention_heads, "k": c.num_key_value_heads}

    def stack(name: str) -> list[np.ndarray]:
        found = [state[f"model.layers.{at}.{name}.weight"] for at in range(c.num_hidden_layers)]
        return [interleaved(value, heads[name[10]]) if name[10] in heads else value for value in found]

    sizes = (c.hidden_size, c.intermediate_size, c.num_hidden_layers, c.num_attention_heads, c.num_key_value_heads)
    tied = c.tie_word_embeddings
    table = np.full((c.max_position_embeddings, c.head_dim // 2), np.nan)  # of rotations: it isn't read
    tensors = [
        state["model.embed_tokens.weight"],
        *stack("input_layernorm"),
        *(each for slot in "qkvo" for each in stack(f"self_attn.{slot}_proj")),
        *stack("post_attention_layernorm"),
        *(each for slot in ("gate", "down", "up") for each in stack(f"mlp.{slot}_proj")),
        state["model.norm.weight"],
        table,
        table,
        *([] if tied else [state["lm_head.weight"]]),
    ]
    header = HEADER.pack(*sizes, c.vocab_size if tied else -c.vocab_size, c.max_position_embeddings)
    path.write_bytes(header + b"".join(np.ascontiguousarray(each, "<f4").tobytes() for each in tensors))
    return path


def write_words(path: Path, tokens: Sequence[tuple[bytes, float]]) -> None:
    written = (struct.pack("<fi", score, len(text)) + text for text, score in tokens)
    path.write_bytes(struct.pack("<i", max(len(text) for text, _ in tokens)) + b"".join(written))


def plain_words(count: int) -> list[tuple[bytes, float]]:
    first = [b"<unk>", b"\n<s>\n", b"\n</s>\n", b" ", *(bytes([97 + at]) for at in range(26))]
    return [(text, 0.0) for text in [*first, b"th", b" th", b"he", b" the", b"an", b"nd", b"and"][:count]]


def of_fields(found: Single) -> Any:
    from transformers import AutoConfig, AutoModelForCausalLM

    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**found.fields)).eval()
    missing, unexpected = model.load_state_dict({n: t.read() for n, t in found.tensors.items()}, strict=False)
    assert not unexpected
    assert set(missing) <= {"lm_head.weight"}
    return model


@pytest.mark.parametrize("tied", [True, False])
def test_tensors_and_fields_are_those_of_the_llama_that_was_written(tied: bool) -> None:
    theirs = llama(tied)
    found = open_single(write(theirs))
    state = theirs.state_dict()
    assert found.tensors.keys() == state.keys() - ({"lm_head.weight"} if tied else set())
    for name, tensor in found.tensors.items():
        assert tensor.shape == state[name].shape
        assert tensor.read().equal(state[name]), name
    tokens = torch.arange(22)[None] * 5 % 37
    with torch.no_grad():
        torch.testing.assert_close(of_fields(found)(tokens).logits, theirs(tokens).logits, rtol=0, atol=1e-5)


# the tokenizer


def greedy(tokens: Sequence[tuple[bytes, float]], text: str) -> list[int]:
    """Merge the pair with the best score again and again, the first of several."""
    texts, scores = [each for each, _ in tokens], [score for _, score in tokens]
    known = {each: at for at, each in enumerate(texts)}
    ids = [1, *([known[b" "]] if text else [])]
    for letter in text:
        spelled = letter.encode()
        ids += [known[spelled]] if spelled in known else [byte + 3 for byte in spelled]
    while True:
        pairs = [(known.get(texts[left] + texts[right]), at) for at, (left, right) in enumerate(pairwise(ids))]
        found = [(scores[merged], -at, merged) for merged, at in pairs if merged is not None]
        if not found:
            return ids
        _, at, merged = max(found)
        ids[-at : -at + 2] = [merged]


def learned() -> list[tuple[bytes, float]]:
    """A vocabulary with all bytes, letters, and pairs of what is there."""
    rng = random.Random(0)
    texts = [b"<unk>", b"\n<s>\n", b"\n</s>\n", *(f"<0x{byte:02X}>".encode() for byte in range(256))]
    letters = [" ", "\u00e9", *"aehnst.,"]
    texts += [each.encode() for each in letters]
    pieces = list(letters)
    while len(pieces) < 80:
        if (made := rng.choice(pieces) + rng.choice(pieces)) not in pieces and len(made) < 8:
            pieces.append(made)
    texts += [each.encode() for each in pieces[len(letters) :]]
    return [(text, -float(at) if at >= 259 else 0.0) for at, text in enumerate(texts)]


def test_ids_are_those_of_greedy_merging() -> None:
    tokens = learned()
    theirs = random_model("llama", vocab_size=len(tokens), tie_word_embeddings=True)
    write(theirs)
    write_words(Path("tokenizer.bin"), tokens)
    tokenizer = open_single(Path(NAME)).tokenizer()
    assert tokenizer is not None
    rng = random.Random(1)
    some = [
        " ",
        "  ",
        "\n",
        "\u00e9",
        "\u65e5",
        "\U0001f389",
        "x",
        *"aehnst.,",
        *(text.decode() for text, _ in tokens[270:]),
    ]
    for _ in range(500):
        text = "".join(rng.choice(some) for _ in range(rng.randrange(12)))
        assert tokenizer.encode(text).ids == greedy(tokens, text), text
        assert tokenizer.decode(tokenizer.encode(text).ids) == text


def test_the_tokenizer_beside_is_taken_by_its_number_of_tokens_and_said() -> None:
    write(llama(tied=True))
    assert open_single(Path(NAME)).notes == (f"no tokenizer lies beside {NAME}: data for it are token ids",)
    write_words(Path("tok5.bin"), plain_words(5))
    Path("tokenizer.bin").write_bytes(b"something else")
    found = open_single(Path(NAME))
    seen = f"no tokenizer lies beside {NAME} (tokenizer.bin, tok5.bin: none of 37 tokens): data for it are token ids"
    assert found.notes == (seen,)
    assert found.tokenizer() is None
    write_words(Path("tokens.bin"), plain_words(37))
    write_words(Path("tokenizer.bin"), plain_words(37))
    said = f"the tokenizer is tokenizer.bin beside {NAME}, by its 37 tokens"
    assert open_single(Path(NAME)).notes == (f"{said}, which tokens.bin has too",)
    Path("tokens.bin").unlink()
    assert open_single(Path(NAME)).notes == (said,)


def test_a_tokenizer_with_a_token_twice() -> None:
    write(llama(tied=True))
    write_words(Path("tokenizer.bin"), [*plain_words(36), (b"a", 0.0)])
    with pytest.raises(ScrubError, match=r"^tokenizer\.bin has the token 'a' twice, as 4 and 36: take another copy$"):
        open_single(Path(NAME)).tokenizer()


# what is wrong


def refusal(path: Path | str = NAME) -> str:
    with pytest.raises(ScrubError) as caught:
        load_model(path)
    (line,) = str(caught.value).splitlines()
    return line


def test_a_file_of_another_length() -> None:
    whole = write(llama(tied=True)).read_bytes()
    for other in (whole[:-1], whole[:-4], whole + b"\0", whole[:100], whole * 2):
        Path(NAME).write_bytes(other)
        said = f"{NAME} has {len(other):,} bytes, and as a model of llama2.c its header asks for {len(whole):,}: "
        assert refusal().startswith(said)


@pytest.mark.parametrize("at", range(7))
@pytest.mark.parametrize("value", [0, -1, 2**31 - 1, -(2**31)])
def test_absurd_headers(at: int, value: int) -> None:
    whole = write(llama(tied=True)).read_bytes()
    sizes = list(HEADER.unpack(whole[:28]))
    sizes[at] = value
    Path(NAME).write_bytes(HEADER.pack(*sizes) + whole[28:])
    assert refusal().startswith(f"{NAME} ")


def test_files_that_are_something_else() -> None:
    torch.save({"a": torch.ones(2)}, "pytorch_model.bin")
    assert refusal("pytorch_model.bin") == (
        "pytorch_model.bin is a zip archive, such as a pickle of torch.save, which is no model by itself: a model is a "
        "folder with config.json and its weights, a .gguf file, or a .bin of llama2.c"
    )
    write_words(Path(WORDS), plain_words(37))
    assert refusal(WORDS).startswith(f"{WORDS} begins with 6, 0, 5, ")
    Path("short.bin").write_bytes(b"\1\0")
    assert refusal("short.bin") == "short.bin has 2 bytes, which are no model of llama2.c: take another copy"
    Path("later.bin").write_bytes(struct.pack("<Ii", 0x616B3432, 1) + bytes(256))
    assert refusal("later.bin") == (
        "later.bin is of a later version of llama2.c's layout: export it again with --version 0"
    )
    Path("x.safetensors").write_bytes(b"{}")
    assert refusal("x.safetensors").startswith("x.safetensors is no folder: a model is a folder with config.json")


# trained weights


def undone(content: bytes) -> bytes:
    """Undo what happened to the weights of one copy of stories260K: each matrix was transposed in place, five times.

    Of what isn't square, the axes weren't exchanged in between, so that the values are in another order.
    """
    width, hidden, layers, heads, kv_heads, vocabulary, _ = HEADER.unpack(content[:28])
    values = np.frombuffer(content, "<f4", offset=28).copy()
    kv_width, at = width // heads * kv_heads, (vocabulary + layers) * width
    shapes = [(width, width), (kv_width, width), (kv_width, width), (width, width), (1, width)]
    for rows, columns in [*shapes, (hidden, width), (width, hidden), (hidden, width)]:
        for _ in range(layers):
            part = values[at : at + rows * columns]
            for _ in range(5):
                part[:] = part.reshape(rows, columns).T.ravel().copy()
            at += rows * columns
    return content[:28] + values.tobytes()


@pytest.fixture
def stories(tmp_path: Path) -> Path:
    """stories260K with its tokenizer beside it, sound."""
    if not REFERENCE.is_dir():
        pytest.skip("stories260K isn't beside the checkout")
    content = (REFERENCE / "stories260K.bin").read_bytes()
    path = tmp_path / "stories260K.bin"
    path.write_bytes(content)
    (tmp_path / "tok512.bin").write_bytes((REFERENCE / "tok512.bin").read_bytes())
    if not _tells(path):
        path.write_bytes(undone(content))
    return path


def _tells(path: Path) -> bool:
    """Tell whether the story is likely to the model: about 1 nat a token, and 12 in the damaged copy."""
    found = open_single(path)
    ids = torch.tensor([found.tokenizer().encode(STORY).ids])  # type: ignore[union-attr]
    with torch.no_grad():
        return float(of_fields(found)(ids, labels=ids).loss) < 3


def test_stories260k_tells_its_story(stories: Path) -> None:
    found = open_single(stories)
    assert found.notes == (f"the tokenizer is tok512.bin beside {stories}, by its 512 tokens",)
    model, tokenizer = of_fields(found), found.tokenizer()
    assert tokenizer is not None
    ids = torch.tensor([[1]])
    told = model.generate(ids, max_new_tokens=len(tokenizer.encode(STORY).ids) - 1, do_sample=False)
    assert tokenizer.decode(told[0].tolist()) == STORY


def test_a_single_file_at_the_command_line(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Its roles need a folder, which is said before they are measured, and how to make it; so has parity no twin."""
    Path("models").mkdir()
    write(llama(tied=True), Path("models/m.bin"))
    write_words(Path("models/tok37.bin"), plain_words(37))

    def said(*words: str) -> str:
        assert _status(list(words)) == (0 if words[0] == "list" else 2)
        captured = capsys.readouterr()
        return captured.out if words[0] == "list" else captured.err.splitlines()[-1]

    listed = said("list", "models")
    assert "* m.bin " in listed
    assert "tok37" not in listed
    twin = (
        "scrub: models/m.bin is a single file, which transformers doesn't read as it is: compare the folder that it was"
    )
    assert said("parity", "m.bin").startswith(twin)
    monkeypatch.setattr("scrub.measure.heads.roles.measure", None)
    told = said("roles", "m.bin", "--write")
    advice = "scrub.save_model(scrub.load_model(FILE), 'models/NAME')"
    assert told.startswith(
        "scrub: models/m.bin is one file, in which nothing more can be said of the model: save it as "
    )
    assert advice in told
    eval(advice.replace("FILE", "'m.bin'"), {"scrub": scrub})
    tokens = torch.randint(37, (2, 5))
    assert torch.equal(scrub.load_model("NAME")(tokens), load_model("m.bin")(tokens))
    assert own_config("NAME")[0] == Path("models/NAME/config.json")
    assert "(of a model in one file: save it as a folder first" in said("run", "induction", "--model", "m.bin")
