"""GGUF files: their fields and tensors are those that transformers loads, and what is wrong is one line."""

import struct
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from written_gguf import SIZES, random_model, unchanged, write_gguf

from scrub.models.checkpoints.single import open_single
from scrub.models.checkpoints.single.content import Single
from scrub.models.model import load_model
from scrub.text.errors import ScrubError

NAME = "m.gguf"
TOKENS = torch.arange(22)[None] * 5 % 37
GEMMA = {"query_pre_attn_scalar": 16, "sliding_window": 5, "tie_word_embeddings": True}
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", {}),
    "llama tied with biases": ("llama", {"tie_word_embeddings": True, "attention_bias": True, "mlp_bias": True}),
    "qwen2": ("qwen2", {}),
    "qwen3": ("qwen3", {"tie_word_embeddings": True}),
    "gemma2": ("gemma2", GEMMA),
    "gemma3": ("gemma3_text", {**GEMMA, "num_hidden_layers": 7}),
    "gpt2": ("gpt2", {}),
}
# what transformers loads from a GGUF file, with the sizes of these; not Llama's biases, nor Qwen 3's width of a head
READ_BY_TRANSFORMERS = [
    ("llama", "F32"),
    ("llama", "F16"),
    ("llama", "BF16"),
    ("llama", "Q8_0"),
    ("llama", "Q4_0"),
    ("llama", "Q4_1"),
    ("qwen2", "Q8_0"),
    ("gemma2", "F32"),
    ("gemma3", "Q5_1"),
]
ARE_OTHERWISE = {  # what transformers doesn't take from the file, but from its defaults
    "query_pre_attn_scalar",
    "head_dim",
    "_name_or_path",
    "dtype",
}


@pytest.fixture(autouse=True)
def _empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def said_tokens(writer: gguf.GGUFWriter) -> None:
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)


def of_fields(found: Single) -> Any:
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model(**found.fields)
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
    missing, unexpected = model.load_state_dict({n: t.read() for n, t in found.tensors.items()}, strict=False)
    assert set(missing) <= ({"lm_head.weight"} if found.fields["tie_word_embeddings"] else set())
    assert not unexpected
    return model


@pytest.mark.parametrize("which", MODELS)
def test_the_model_that_was_written_computes_the_same(which: str) -> None:
    model_type, fields = MODELS[which]
    theirs = random_model(model_type, **fields)
    ours = of_fields(open_single(write_gguf(Path(NAME), theirs)))
    with torch.no_grad():
        torch.testing.assert_close(ours(TOKENS).logits, theirs(TOKENS).logits, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("which", "quantisation"), READ_BY_TRANSFORMERS)
def test_fields_and_tensors_are_what_transformers_loads(which: str, quantisation: str) -> None:
    from transformers import AutoConfig, AutoModelForCausalLM

    model_type, fields = MODELS[which]
    found = open_single(write_gguf(Path(NAME), random_model(model_type, **fields), quantisation, said_tokens))
    theirs = AutoModelForCausalLM.from_pretrained(".", gguf_file=NAME)
    state = theirs.state_dict()
    for name, tensor in found.tensors.items():
        assert tensor.shape == state[name].shape
        torch.testing.assert_close(tensor.read().float(), state[name].float(), rtol=0, atol=0)
    ours, expected = AutoConfig.for_model(**found.fields).to_dict(), theirs.config.to_dict()
    assert {k: v for k, v in ours.items() if k not in ARE_OTHERWISE and expected[k] != v} == {}


def test_scrub_loads_one_by_its_path_and_by_its_name() -> None:
    theirs = random_model("gpt2")
    Path("models").mkdir()
    write_gguf(Path("models", NAME), theirs)
    with torch.no_grad():
        expected = theirs.double()(TOKENS).logits
    for spec in (NAME, Path("models", NAME)):
        model = load_model(spec, torch.float64)
        torch.testing.assert_close(model(TOKENS), expected, rtol=0, atol=1e-10)
        assert model.name == NAME
        assert model.notes == (f"models/{NAME} holds no tokenizer: data for it are token ids",)


def test_half_precision_is_read_without_loss() -> None:
    theirs = random_model("gpt2")
    model = load_model(write_gguf(Path(NAME), theirs, "F16"), torch.float32)
    assert model.params["embed.weight"].equal(theirs.transformer.wte.weight.half().float())


# rotary positions


def llama3_factors(theta: float, factor: float) -> np.ndarray:
    """As llama.cpp's converter computes them of a config.json."""
    found = []
    for at in range(0, SIZES["head_dim"], 2):
        wave = 2 * np.pi * theta ** (at / SIZES["head_dim"])
        smooth = (8192 / wave - 1) / (4 - 1)
        found.append(1.0 if wave < 8192 / 4 else factor if wave > 8192 else 1 / ((1 - smooth) / factor + smooth))
    return np.array(found, np.float32)


@pytest.mark.parametrize("factor", [8.0, 32.0])
@pytest.mark.parametrize("theta", [5e5, 3e3])  # with 3e3 no wave is so long that it is divided by the whole factor
def test_llama_3s_scaling(factor: float, theta: float) -> None:
    scaling = {
        "rope_type": "llama3",
        "factor": factor,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }
    theirs = random_model("llama", rope_theta=theta, rope_scaling=dict(scaling), max_position_embeddings=16384)
    factors = {"rope_freqs.weight": llama3_factors(theta, factor)}
    found = open_single(write_gguf(Path(NAME), theirs, tensors=factors))
    assert found.fields["rope_scaling"] == scaling
    assert of_fields(found).model.rotary_emb.inv_freq.equal(theirs.model.rotary_emb.inv_freq)


def test_factors_of_others_are_refused() -> None:
    for factors in (np.linspace(1, 3, 8, dtype=np.float32), np.ones(5, np.float32), np.zeros(8, np.float32)):
        write_gguf(Path(NAME), random_model("llama"), tensors={"rope_freqs.weight": factors})
        assert refusal().startswith(f"{NAME}: rope_freqs.weight scales rotary positions otherwise than Llama 3 does")


def scaled(kind: str, *more: tuple[str, float]) -> Callable[[gguf.GGUFWriter], None]:
    def write(writer: gguf.GGUFWriter) -> None:
        writer.add_string("llama.rope.scaling.type", kind)
        for name, value in more:
            add = writer.add_uint32 if isinstance(value, int) else writer.add_float32
            add(f"llama.rope.{name}", value)

    return write


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        (scaled("none"), None),
        (scaled("linear", ("scaling.factor", 4.0)), {"rope_type": "linear", "factor": 4.0}),
        (lambda writer: writer.add_float32("llama.rope.scale_linear", 4.0), {"rope_type": "linear", "factor": 4.0}),
        (
            scaled("yarn", ("scaling.factor", 4.0), ("scaling.original_context_length", 11)),
            {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 11},
        ),
    ],
)
def test_other_scalings(more: Callable[[gguf.GGUFWriter], None], expected: object) -> None:
    found = open_single(write_gguf(Path(NAME), random_model("llama"), more=more))
    assert found.fields["rope_scaling"] == expected


# several files


def split(count: int = 3) -> list[Path]:
    """The tensors of one model in several files, the metadata in the first."""
    theirs = random_model("gpt2")
    reader = gguf.GGUFReader(write_gguf(Path("whole.gguf"), theirs))
    paths = [Path(f"m-{at + 1:05}-of-{count:05}.gguf") for at in range(count)]
    for at, path in enumerate(paths):
        writer = gguf.GGUFWriter(path, "gpt2")
        for field in reader.fields.values() if at == 0 else ():
            if field.name.startswith("gpt2."):
                writer.add_key_value(field.name, field.contents(), field.types[0])
        writer.add_uint16("split.no", at)
        writer.add_uint16("split.count", count)
        writer.add_int32("split.tensors.count", len(reader.tensors))
        for tensor in reader.tensors[at::count]:
            writer.add_tensor(tensor.name, tensor.data)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
    return paths


def test_a_model_in_several_files_is_read_from_any_of_them() -> None:
    for path in split():
        ours, whole = load_model(path), load_model("whole.gguf")
        assert ours.weights_hash == whole.weights_hash


def test_several_files_that_dont_belong_together() -> None:
    first, second, third = split()
    kept = third.read_bytes()
    third.unlink()
    assert refusal(first) == f"{first} is one of 3 files of a model, and '{third}' is not there"
    third.write_bytes(second.read_bytes())
    assert refusal(first) == f"{third} says split.no 1: expected 2, of 3, as its name says; take another copy"
    third.write_bytes(kept)
    named = first.rename("other.gguf")
    assert refusal(named).startswith("other.gguf is one of 3 files of a model: give them the names that they were made")


# what is wrong


def refusal(path: Path | str = NAME) -> str:
    with pytest.raises(ScrubError) as caught:
        load_model(path)
    (line,) = str(caught.value).splitlines()
    return line


def written(more: Callable[[gguf.GGUFWriter], None] = unchanged, **fields: Any) -> bytes:
    return write_gguf(Path(NAME), random_model("gpt2"), more=more, **fields).read_bytes()


def patched(old: bytes, new: bytes) -> bytes:
    whole = written()
    assert whole.count(old) == 1
    return whole.replace(old, new)


def field(name: str, kind: int, value: bytes) -> bytes:
    return struct.pack("<Q", len(name)) + name.encode() + struct.pack("<I", kind) + value


WIDTH = partial(field, "gpt2.embedding_length", 4)
BAD: dict[str, tuple[Callable[[], bytes], str]] = {
    "another magic": (lambda: b"GGJT" + written()[4:], f"{NAME} is no GGUF file: it begins with b'GGJT'"),
    "empty": (lambda: b"", f"{NAME} is no intact GGUF file (it asks for 4 bytes where 0 are left: it was cut short)"),
    "big-endian": (lambda: b"GGUF\0\0\0\3" + written()[8:], f"{NAME} is a big-endian GGUF file"),
    "another version": (lambda: b"GGUF\1\0\0\0" + written()[8:], f"{NAME} is a GGUF file of version 1: scrub reads"),
    "cut in the header": (lambda: written()[:200], f"{NAME} is no intact GGUF file ("),
    "cut in the tensors": (lambda: written()[:-500], "ends at byte"),
    "more fields than bytes": (lambda: patched_at(16, 2**60), "announces 1,152,921,504,606,846,976 entries"),
    "more tensors than bytes": (lambda: patched_at(8, 2**60), "announces 1,152,921,504,606,846,976 entries"),
    "a list longer than the file": (
        lambda: patched(WIDTH(struct.pack("<I", 96)), field("gpt2.embedding_lengt", 9, struct.pack("<IQ", 0, 2**61))),
        "it asks for 2,305,843,009,213,693,952 bytes",
    ),
    "a list of lists": (
        lambda: patched(WIDTH(struct.pack("<I", 96)), field("gpt2.embedding_lengt", 9, struct.pack("<IQ", 9, 1))),
        "has the unknown type 9",
    ),
    "a field of another type": (
        lambda: patched(WIDTH(struct.pack("<I", 96)), field("gpt2.embedding_length", 6, struct.pack("<f", 96))),
        f"{NAME} says gpt2.embedding_length 96.0: expected a whole number from 1 to 2,147,483,647; take another copy",
    ),
    "a field out of range": (
        lambda: patched(WIDTH(struct.pack("<I", 96)), WIDTH(struct.pack("<I", 0))),
        f"{NAME} says gpt2.embedding_length 0: expected a whole number from 1 to 2,147,483,647; take another copy",
    ),
    "a missing field": (
        lambda: patched(b"gpt2.embedding_length", b"gpt2.embedding_lengte"),
        f"{NAME} misses the field gpt2.embedding_length: take another copy",
    ),
    "an unknown field": (
        lambda: written(lambda writer: writer.add_float32("gpt2.logit_scale", 2.0)),
        f"{NAME} says gpt2.logit_scale, which scrub doesn't know of the architecture gpt2 and won't leave out: ",
    ),
    "another architecture": (
        lambda: patched(b"\4\0\0\0\0\0\0\0gpt2", b"\4\0\0\0\0\0\0\0rwkv"),
        f"{NAME} is of the architecture 'rwkv': of GGUF files, scrub reads gemma2, gemma3, gpt2, llama, qwen2, qwen3; ",
    ),
    "an adapter": (
        lambda: written(lambda writer: writer.add_type("adapter")),
        f"{NAME} says general.type 'adapter': scrub reads no GGUF with anything else than a model",
    ),
    "a begin token outside the vocabulary": (
        lambda: written(lambda writer: writer.add_bos_token_id(37)),
        f"{NAME} says tokenizer.ggml.bos_token_id 37: expected a whole number from 0 to 36; take another copy",
    ),
    "a missing tensor": (
        lambda: written(without=("blk.1.ffn_up.weight",)),
        f"{NAME} misses blk.1.ffn_up.weight, which its metadata ask for: take another copy",
    ),
    "a tensor of something else": (
        lambda: written(tensors={"blk.1.ssm_a": np.ones(3)}),
        f"{NAME} holds blk.1.ssm_a, which scrub doesn't know of the architecture gpt2 and won't leave out: ",
    ),
    "another shape": (
        lambda: written(tensors={"blk.1.ffn_up.weight": np.ones((383, 96))}),
        f"{NAME}: blk.1.ffn_up.weight is [96, 383], but its config asks for [96, 384]",
    ),
    "a NaN": (
        lambda: written(tensors={"blk.1.ffn_up.bias": np.full(384, np.nan)}),
        f"{NAME}: blk.1.ffn_up.bias holds 384 of 384 values that are NaN or infinite",
    ),
    "an unknown quantisation": (
        lambda: retyped(77),
        f"{NAME}: output_norm.bias is of the unknown type 77 of ggml: take a file with another quantisation",
    ),
    "a type that isn't a weight's": (
        lambda: retyped(gguf.GGMLQuantizationType.I32),
        f"{NAME}: output_norm.bias is of ggml's type I32, which the package gguf doesn't turn into numbers",
    ),
}


def patched_at(offset: int, value: int) -> bytes:
    whole = written()
    return whole[:offset] + struct.pack("<Q", value) + whole[offset + 8 :]


def retyped(kind: int) -> bytes:
    described = b"output_norm.bias" + struct.pack("<IQ", 1, 96)
    return patched(described + struct.pack("<I", 0), described + struct.pack("<I", kind))


@pytest.mark.parametrize("which", BAD)
def test_what_is_wrong_is_one_line(which: str) -> None:
    make, expected = BAD[which]
    Path(NAME).write_bytes(make())
    said = refusal()
    assert expected in said
    assert said.startswith(NAME)


def test_every_cut_is_told() -> None:
    whole = written()
    for size in range(0, len(whole) - 32, 9973):
        Path(NAME).write_bytes(whole[:size])
        assert "cut short" in refusal()


def test_experts_and_other_rotations_are_refused() -> None:
    theirs = random_model("llama")
    write_gguf(Path(NAME), theirs, more=lambda writer: writer.add_expert_count(8))
    assert refusal() == f"{NAME} says llama.expert_count 8: scrub reads no GGUF with experts"
    write_gguf(Path(NAME), theirs, more=scaled("longrope", ("scaling.factor", 4.0)))
    assert refusal().startswith(f"{NAME} scales rotary positions by 'longrope': of a GGUF's scalings, scrub reads")


def test_rows_that_heads_dont_share() -> None:
    write_gguf(Path(NAME), random_model("llama"), tensors={"blk.0.attn_k.weight": np.ones((33, 96))})
    with pytest.raises(ScrubError, match=r"^m\.gguf: blk\.0\.attn_k\.weight is \[33, 96\], which the heads of its"):
        open_single(Path(NAME))


def test_a_file_has_no_place_for_roles() -> None:
    from scrub.models.place import own_config

    written()
    with pytest.raises(ScrubError, match=r"m\.gguf is one file, in which nothing more can be said of the model"):
        own_config(NAME)
