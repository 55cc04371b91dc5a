"""Models that people have fine-tuned: further heads, pads that were added, float64, quantised, not in memory."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from made import SIZES, agree, fields_of, gpt2, lens, lens_fields, refusal, refused, write_fields, write_lens
from safetensors.torch import load_file, save_file
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors
from torch import Tensor, nn
from transformers import (
    GPT2Config,
    GPT2DoubleHeadsModel,
    GPT2ForSequenceClassification,
    GPT2ForTokenClassification,
    GPT2LMHeadModel,
)
from wording import tells

import scrub
from scrub.data.for_model import examples_for, read_prompts
from scrub.models.checkpoints import wanted_files
from scrub.models.checkpoints.tokenizer import MOST_WITHOUT_ROW, fitting_tokenizer
from scrub.models.model import Model, load_model, save_model
from scrub.text.errors import ScrubError, ScrubWarning

pytestmark = [
    pytest.mark.filterwarnings("ignore::scrub.text.errors.ScrubWarning"),
    pytest.mark.filterwarnings("ignore:HookedTransformer is deprecated:DeprecationWarning"),
]
TOKENS = torch.randint(17, (3, 11), generator=torch.Generator().manual_seed(5))


def told(make: Callable[[], Model]) -> tuple[Model, list[str]]:
    """What is made, and what is warned of meanwhile, which its notes say too, at the line that asked for it."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        made = make()
    ours = [each for each in caught if issubclass(each.category, ScrubWarning)]
    assert {each.filename for each in ours} <= {__file__}
    assert [str(each.message) for each in ours] == [*made.notes]
    return made, [*made.notes]


def with_tensors(folder: Path, more: Mapping[str, Tensor]) -> Path:
    """The folder of a random GPT-2, with these tensors too."""
    gpt2().save_pretrained(folder)
    tensors = load_file(folder / "model.safetensors")
    save_file({**tensors, **more}, folder / "model.safetensors", {"format": "pt"})
    return folder


# further heads

HEADS: dict[str, dict[str, tuple[int, ...]]] = {
    "trl": {"v_head.summary.weight": (1, 15), "v_head.summary.bias": (1,)},
    "trlx": {"v_head.0.weight": (30, 15), "v_head.2.weight": (1, 30)},
    "classes": {"score.weight": (2, 15)},
    "tokens": {"classifier.weight": (5, 15), "classifier.bias": (5,)},
    "spans": {"qa_outputs.weight": (2, 15), "qa_outputs.bias": (2,)},
    "choices": {"multiple_choice_head.summary.weight": (1, 15)},
}


@pytest.mark.parametrize("shapes", HEADS.values(), ids=HEADS)
def test_a_further_head_in_a_file_is_named_and_left_out(tmp_path: Path, shapes: dict[str, tuple[int, ...]]) -> None:
    """Whatever is in it: transformers' logits without it."""
    folder = with_tensors(tmp_path, {name: torch.full(shape, torch.nan) for name, shape in shapes.items()})
    write_fields(folder, {**fields_of(folder), "architectures": ["GPT2ForSequenceClassification"]})
    found, (note,) = told(lambda: load_model(folder))
    assert all(name in note for name in shapes)
    assert "left out" in note
    theirs = gpt2()
    with torch.no_grad():
        torch.testing.assert_close(found(TOKENS), theirs(TOKENS).logits, rtol=0, atol=1e-5)
    save_model(found, tmp_path / "again")
    assert told(lambda: load_model(tmp_path / "again"))[1] == []
    assert fields_of(tmp_path / "again")["architectures"] == ["GPT2LMHeadModel"]


NO_HEADS: dict[str, tuple[int, ...]] = {
    "transformer.h.0.attn.score.weight": (2, 15),
    "transformer.h.0.v_head.weight": (1, 15),
    "transformer.score.weight": (2, 15),
    "h.0.score.weight": (2, 15),
    "lm_head.bias": (17,),
    "adapter.weight": (2, 15),
    "out_head.weight": (17, 15),  # an unembedding by another name
}


@pytest.mark.parametrize(("name", "shape"), NO_HEADS.items(), ids=NO_HEADS)
def test_what_is_no_further_head_is_an_error(tmp_path: Path, name: str, shape: tuple[int, ...]) -> None:
    with_tensors(tmp_path, {"v_head.weight": torch.zeros(1, 15), name: torch.zeros(shape)})
    assert tells(refusal(tmp_path), f"model.safetensors holds '{name}', which config.json beside it has no place for")


class Wrapped(nn.Module):
    """What trl makes of a model: a value head beside it, and its state dict where that isn't trl's own."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.pretrained_model, self.v_head, self.config = model, nn.Linear(15, 1), model.config


def test_objects_with_another_head() -> None:
    """With trl's value head, in both of its forms, and transformers' classes for other tasks."""
    theirs = gpt2()
    with torch.no_grad():
        right = theirs(TOKENS).logits
    wrapped = Wrapped(theirs)
    flat = {**theirs.state_dict(), "v_head.weight": torch.zeros(1, 15)}
    inside = {f"module._orig_mod.{name}": value for name, value in wrapped.state_dict().items()}
    others: list[Any] = [wrapped, (theirs.config, flat), (theirs.config, inside)]
    config = theirs.config
    config.num_labels, config.pad_token_id = 3, 1
    for kind in (GPT2ForSequenceClassification, GPT2ForTokenClassification, GPT2DoubleHeadsModel):
        other = kind(config)
        other.transformer.load_state_dict(theirs.transformer.state_dict())
        others.append(other)
    heads = [
        "v_head.bias, v_head.weight",
        "v_head.weight",
        "v_head.bias, v_head.weight",
        "score.weight",
        "classifier.bias",
        "multiple_choice_head",
    ]
    for other, head in zip(others, heads, strict=True):
        found, (note,) = told(lambda other=other: load_model(other))
        assert head in note
        torch.testing.assert_close(found(TOKENS), right, rtol=0, atol=1e-5)
        assert pickle.loads(pickle.dumps(found)).notes == found.notes
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # it was told
            load_model(found, torch.float64)
    twice = {**flat, "pretrained_model.transformer.wpe.weight": torch.zeros(11, 15)}
    assert tells(refused((theirs.config, twice)), "holds 'pretrained_model.transformer.wpe.weight', which")


@pytest.mark.parametrize("wrap", [torch.compile, nn.DataParallel, lambda model: nn.DataParallel(torch.compile(model))])
def test_what_torch_wraps_around_a_model(wrap: Callable[[nn.Module], Any]) -> None:
    theirs = gpt2()
    found, plain = load_model(wrap(theirs)), load_model(theirs)
    assert found.name == plain.name
    assert all(torch.equal(value, plain.params[name]) for name, value in found.params.items())
    assert scrub.parity(wrap(theirs), TOKENS).within
    state = wrap(theirs).state_dict()
    assert next(iter(state)).startswith(("_orig_mod.", "module."))
    assert torch.equal(load_model((theirs.config, state))(TOKENS), plain(TOKENS))

    class Doubled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.module = theirs

    assert tells(refused(Doubled()), "is no model")  # nobody knows what it computes


def test_an_adapter_is_no_model_and_is_never_left_aside(tmp_path: Path) -> None:
    """Alone, or beside a whole model, where transformers obeys it; and in memory, where it isn't merged."""
    theirs = gpt2()
    theirs.save_pretrained(tmp_path)
    down = {"base_model.model.transformer.h.0.attn.c_attn.lora_A.weight": torch.zeros(2, 15)}
    save_file(down, tmp_path / "adapter_model.safetensors")
    load_model(tmp_path)  # weights of an adapter that nothing names, beside those of a model
    (tmp_path / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    says = (
        "adapter_config.json says that this is an adapter, which changes what a model computes: load it with peft, me"
    )
    for lost in ("nothing.json", "model.safetensors", "config.json"):
        (tmp_path / lost).unlink(missing_ok=True)
        assert tells(refusal(tmp_path), says)
    with pytest.raises(ScrubError, match=r"^someone/adapted/adapter_config\.json says that this is an adapter"):
        wanted_files(["config.json", "model.safetensors", "adapter_config.json"], "someone/adapted")
    (tmp_path / "adapter_config.json").unlink()
    theirs.config.save_pretrained(tmp_path)
    assert tells(refusal(tmp_path), "model.safetensors is not there")
    for name in (*down, "base_model.model.transformer.h.0.attn.c_attn.base_layer.weight"):
        state = {**theirs.state_dict(), name: torch.zeros(2, 15)}
        assert tells(refused((theirs.config, state)), f"has {name} of an adapter that isn't merged")


def test_an_unembedding_that_isnt_there(tmp_path: Path) -> None:
    theirs = gpt2(tie_word_embeddings=False)
    state = {name: value for name, value in theirs.state_dict().items() if name != "lm_head.weight"}
    says = "misses lm_head.weight, and its config says that it isn't tied to the embedding"
    message = refused((theirs.config, {**state, "score.weight": torch.zeros(2, 15)}))
    assert tells(message, f"the state dict of gpt2 {says}")
    assert "tie_word_embeddings" in message
    load_model((gpt2().config, state))
    theirs.save_pretrained(tmp_path)
    save_file(state, tmp_path / "model.safetensors", {"format": "pt"})
    assert "tie_word_embeddings" in refusal(tmp_path)


# float64


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_float64_in_files(tmp_path: Path, name: str) -> None:
    theirs = gpt2().double()
    with torch.no_grad():
        for each in theirs.parameters():
            each.add_(torch.randn_like(each), alpha=1e-9)  # what float32 can't hold
    theirs.config.save_pretrained(tmp_path)
    state = {key: value for key, value in theirs.state_dict().items() if key != "lm_head.weight"}
    if name.endswith("bin"):
        torch.save(state, tmp_path / name)
    else:
        save_file(state, tmp_path / name, {"format": "pt"})
    exact, single = load_model(tmp_path, torch.float64), load_model(tmp_path)
    assert exact.params["embed.weight"].equal(state["transformer.wte.weight"])
    assert single.params["embed.weight"].equal(state["transformer.wte.weight"].float())
    assert not exact.params["embed.weight"].float().double().equal(exact.params["embed.weight"])
    with torch.no_grad():
        torch.testing.assert_close(exact(TOKENS), theirs(TOKENS).logits, rtol=0, atol=1e-12)
    state["transformer.wte.weight"][2, 3] = 1e200
    torch.save(state, tmp_path / name) if name.endswith("bin") else save_file(state, tmp_path / name)
    assert tells(refusal(tmp_path), f"{name}: transformer.wte.weight has values that float32 can't hold: load it as")
    assert "float64" in refusal(tmp_path)


def test_float64_of_transformer_lens(tmp_path: Path) -> None:
    theirs = lens().double()
    write_lens(tmp_path, theirs)
    assert load_model(tmp_path, torch.float64).params["pos.weight"].equal(theirs.pos_embed.W_pos.detach())


# tokens without a row of the embedding

END, PAD = "<|endoftext|>", "[PAD]"
SIZE = 261


def bytes_and(*added: str, merges: int = 4) -> Tokenizer:
    """A byte-level tokenizer of 257 tokens and a few merges, with these added behind."""
    letters = pre_tokenizers.ByteLevel.alphabet()
    pairs = [("t", "h"), ("th", "e"), ("a", "t"), ("o", "n"), ("i", "n"), ("c", "at")][:merges]
    vocabulary = [END, *sorted(letters), *("".join(pair) for pair in pairs)]
    made = Tokenizer(models.BPE({token: at for at, token in enumerate(vocabulary)}, pairs))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens([END])
    made.add_tokens([AddedToken(each, special=each.startswith("[")) for each in added])
    return made


@pytest.fixture(scope="module")
def padded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a GPT-2 whose tokenizer got a pad, without a row for it."""
    folder = tmp_path_factory.mktemp("padded")
    gpt2(vocab_size=SIZE, bos_token_id=0, eos_token_id=0).save_pretrained(folder)
    bytes_and(PAD).save(str(folder / "tokenizer.json"))
    return folder


def test_a_token_that_was_added_without_a_row(padded: Path, tmp_path: Path) -> None:
    """Ordinary text has its tokens; wherever text is read, one that holds the token is refused in one line."""
    model, (note,) = told(lambda: load_model(padded))
    assert tells(note, f"the tokenizer has '{PAD}', with no row of the model's embedding, whose ids are 0 to 260")
    assert model.tokens("on the cat").tolist() == [bytes_and().encode("on the cat").ids]
    texts = ["the cat", f"the {PAD} cat"]
    for number, text in enumerate(texts):
        (tmp_path / f"{number}.txt").write_text(f"{text} on a mat in there " * 60)
    reads: list[Callable[[str, int], object]] = [
        lambda text, _: model.tokens(text),
        lambda text, _: model.values(text, "a0"),
        lambda text, _: scrub.given_prompt(model, text, " "),
        lambda text, _: read_prompts(model, [{"clean": text, "answer": " "}]),
        lambda text, _: read_prompts(model, [{"clean": "on", "corrupted": text, "answer": " "}]),
        lambda _, number: read_prompts(model, [{"clean": "the", "answer": ["the", PAD][number]}]),
        lambda _, number: examples_for(model, str(tmp_path / f"{number}.txt"), 5),
    ]
    for read in reads:
        read(texts[0], 0)
        with pytest.raises(ScrubError) as caught:
            read(texts[1], 1)
        assert tells(str(caught.value), f"holds '{PAD}', no row, ids 0 to 260"), caught.value
    again = pickle.loads(pickle.dumps(model))
    assert again.notes == model.notes
    save_model(model, tmp_path / "again")
    assert load_model(tmp_path / "again").notes == model.notes


def test_prompts_of_plain_tokens_have_rows(padded: Path) -> None:
    """A pad that is no special token isn't drawn."""
    model = load_model(padded, tokenizer=bytes_and("<pad>", "<x>"))
    assert tells(model.notes[-1], "the tokenizer has '<pad>', '<x>'")
    drawn = scrub.repeated_prompts(model, "random tokens", count=2000, length=4)
    assert set(np.unique(drawn.tokens)) - {0} == set(range(1, SIZE))


def test_tokenizers_that_fit_and_those_of_other_models() -> None:
    """Padded vocabularies, as Qwen2.5, Phi-2 and Pythia have, and a few added tokens fit; nothing else does."""
    few, many = ([f"<{at}>" for at in range(count)] for count in (MOST_WITHOUT_ROW, MOST_WITHOUT_ROW + 1))
    for tokenizer, rows in (
        (bytes_and(), SIZE),
        (bytes_and(), 512),
        (bytes_and(PAD), SIZE + 1),
        (bytes_and(PAD), SIZE),
        (bytes_and(*few), SIZE),
        (bytes_and(*few), SIZE + 7),
    ):
        assert fitting_tokenizer(tokenizer, rows).get_vocab() == tokenizer.get_vocab()
    for tokenizer, rows in (
        (bytes_and(), SIZE - 1),  # a merge of its own without a row: another model's
        (bytes_and(PAD), SIZE - 1),
        (bytes_and(merges=6), SIZE),
        (bytes_and(*many), SIZE),
        (bytes_and(PAD), 540),
    ):
        with pytest.raises(ScrubError, match=r"the tokenizer has \d+ tokens.* vocab_size \d+: take the tokenizer"):
            fitting_tokenizer(tokenizer, rows)
    for size, rows in ((151665, 151936), (50295, 51200), (50277, 50432)):
        words = Tokenizer(models.WordLevel({f"w{at}": at for at in range(size)}, unk_token="w0"))
        assert fitting_tokenizer(words, rows).get_vocab_size() == size
    front = bytes_and("[BOS]")
    front.post_processor = processors.TemplateProcessing("[BOS] $A", "[BOS] $A $B", [("[BOS]", SIZE)])
    with pytest.raises(ScrubError, match=r"puts '\[BOS\]' in front of every text"):
        fitting_tokenizer(front, SIZE)


def test_the_command_line_tells_it_once(padded: Path, tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    """As a warning on standard error, whether or not the command has notes of examples, and status 0."""
    from scrub.cli import _status

    tensors = load_file(padded / "model.safetensors")
    folder = tmp_path / "m"
    folder.mkdir()
    for name in ("config.json", "tokenizer.json"):
        (folder / name).write_bytes((padded / name).read_bytes())
    save_file({**tensors, "v_head.weight": torch.zeros(1, 15)}, folder / "model.safetensors", {"format": "pt"})
    monkeypatch.chdir(tmp_path)
    for words in ("composition m --to 1.0", "prompts m --prompt the.cat.the --answer .", "fetch ./m"):
        assert _status(words.split()) == 0, capsys.readouterr()
        lines = capsys.readouterr().err.splitlines()
        assert [line.startswith("warning: ") and len(line.split("v_head.weight")) for line in lines[:2]] == [2, 1]
        assert f"'{PAD}'" in lines[1]
        assert not any("v_head" in line or PAD in line for line in lines[2:])
    assert _status(["prompts", "m", "--prompt", f"the {PAD}", "--answer", "e"]) == 2
    assert tells(capsys.readouterr().err.splitlines()[-1], f"scrub: the text 'the {PAD}' holds '{PAD}', no row")


# not in memory, or packed


class Params4bit(nn.Parameter):
    """A double of bitsandbytes' in 4 bits, which is two values a byte, and knows how to make them numbers."""

    quant_state = "nf4"


class Int8Params(nn.Parameter):
    """A double of bitsandbytes' in 8 bits."""

    SCB = None


def test_weights_that_arent_there() -> None:
    with torch.device("meta"):
        theirs = GPT2LMHeadModel(GPT2Config(**SIZES))
    message = refused(theirs)
    assert tells(message, "the state dict of GPT2LMHeadModel has transformer.wte.weight on the meta device: load")
    assert "device_map" in message
    partly = gpt2()  # as accelerate leaves what is on disk
    partly.transformer.h[1].mlp.c_fc.weight = nn.Parameter(torch.empty(15, 60, device="meta"))
    assert "transformer.h.1.mlp.c_fc.weight on the meta device" in refused(partly)


@pytest.mark.parametrize("kind", [Params4bit, Int8Params])
def test_weights_that_are_quantised(tmp_path: Path, kind: type[nn.Parameter]) -> None:
    """In the model's parameters, whatever its state dict makes of them; in a state dict; in a file."""
    theirs = gpt2()
    packed = kind(torch.zeros(450, 1, dtype=torch.uint8), requires_grad=False)
    theirs.transformer.h[1].mlp.c_fc.weight = packed
    says = f"has transformer.h.1.mlp.c_fc.weight (a {kind.__name__}) of a quantised model: take load_in_4bit"
    message = refused(theirs)
    assert tells(message, f"the state dict of GPT2LMHeadModel {says}")
    assert "load_in_4bit" in message
    name = "transformer.h.1.mlp.c_fc.weight"
    for beside in ("absmax", "quant_state.bitsandbytes__nf4"):
        state = {**gpt2().state_dict(), name: packed.data, f"{name}.{beside}": torch.zeros(3)}
        assert tells(refused((theirs.config, state)), f"has {name}.{beside} of a quantised model")
    gpt2().config.save_pretrained(tmp_path)
    state = {**gpt2().state_dict(), name: packed.data, "transformer.h.1.mlp.c_fc.SCB": torch.zeros(60)}
    del state["lm_head.weight"]
    save_file(state, tmp_path / "model.safetensors", {"format": "pt"})
    assert tells(refusal(tmp_path), "model.safetensors has transformer.h.1.mlp.c_fc.SCB of a quantised model")


# what a folder of TransformerLens's must hold

HOLDS = "config.json (the fields of model.cfg.to_dict(), and bos_token_id), model.pth (of torch.save(model.state_dict("


def test_a_folder_of_transformer_lens_that_lacks_something(tmp_path: Path) -> None:
    """It is told what such a folder holds; and one that holds exactly that, as README says it, loads."""
    theirs = lens()
    torch.save(theirs.state_dict(), tmp_path / "model.pth")
    assert refusal(tmp_path).startswith("config.json is not there: a folder of TransformerLens's holds ")
    assert HOLDS in refusal(tmp_path)
    least = ("n_layers", "n_heads", "d_model", "d_head", "n_ctx", "d_vocab", "attn_only", "normalization_type")
    fields = {name: lens_fields(theirs)[name] for name in least}
    write_fields(tmp_path, fields)
    assert tells(refusal(tmp_path), "config.json has no field 'bos_token_id': add the field")
    write_fields(tmp_path, {**fields, "bos_token_id": None})
    assert load_model(tmp_path).bos_token_id is None
    double = lens().double()
    double.cfg.dtype = torch.float64
    agree(tmp_path, theirs, double)
    for name in least:
        lacking = {key: value for key, value in fields_of(tmp_path).items() if key != name}
        write_fields(tmp_path, lacking)
        message = refusal(tmp_path)
        instead = {"d_vocab": "one of TransformerLens's d_vocab", "attn_only": "misses blocks.0.ln2.w"}  # it has MLPs
        assert HOLDS in message or instead.get(name, HOLDS) in message
        write_fields(tmp_path, {**fields, "bos_token_id": None})
    (tmp_path / "model.pth").unlink()
    assert HOLDS in refused(tmp_path)
