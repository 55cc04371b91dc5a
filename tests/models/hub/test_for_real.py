"""With the real hub: the models that people have, and the published experiment. `pytest -m hub` runs these."""

from __future__ import annotations

import pytest
import torch
from published_numbers import INDUCTION_LOSSES, apart, published

import scrub
from scrub.cli import _status
from scrub.measure.heads.attention import pattern_nodes
from scrub.models.model import Model
from scrub.plan.leaves import constants, leaves_of
from scrub.plan.plan import compile_plan

pytestmark = pytest.mark.hub

# Percent. The published numbers are rounded, come from other pairs of sequences, and from other sequences of the same
# text; on attn2l, 512 sequences leave intervals of 1 to 2 percent on either side.
TOLERANCE = 5


def logits_and_patterns(model: Model, tokens: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
    outputs = {str(at): each for at, each in enumerate(pattern_nodes(model.graph))}
    plan = compile_plan({**outputs, "logits": model.graph}, selected=False)
    leaves = leaves_of(plan)
    bound = {leaf: tokens for leaf in leaves if leaf.op == "tokens"}
    found = plan.run(plan.once(constants(leaves, model.params, tokens.shape[1])), bound)
    return found["logits"], [found[name] for name in outputs]


def test_the_published_experiment() -> None:
    result = scrub.run("induction", "redwood_attn_2l", settings=scrub.Settings(progress=False))
    assert len(result.published) == 24
    found = {name: result.recovered(name).estimate for name in result.published}
    apart = {name: found[name] - percent for name, percent in result.published.items()}
    assert {name: by for name, by in apart.items() if abs(by) > TOLERANCE} == {}
    losses = {name: result.losses[name].estimate for name in INDUCTION_LOSSES}
    assert losses == pytest.approx(INDUCTION_LOSSES, abs=0.03)


def test_gpt2_is_that_of_transformers() -> None:
    from transformers import AutoTokenizer, GPT2LMHeadModel

    theirs = GPT2LMHeadModel.from_pretrained("openai-community/gpt2", attn_implementation="eager").double().eval()
    ours = scrub.load_model("gpt2", torch.float64)
    assert ours.roles["ind"] == ((5, 1), (5, 5), (6, 9), (7, 2), (7, 10))
    text = "The quick brown fox jumps over the lazy dog. The quick brown fox"
    tokens = torch.tensor([AutoTokenizer.from_pretrained("openai-community/gpt2")(text)["input_ids"]])
    assert ours.tokenizer is not None
    assert ours.tokenizer.encode(text, add_special_tokens=False).ids == tokens[0].tolist()
    with torch.no_grad():
        wanted = theirs(tokens, output_attentions=True)
    logits, patterns = logits_and_patterns(ours, tokens)
    torch.testing.assert_close(logits, wanted.logits, rtol=0, atol=1e-9)
    for pattern, attention in zip(patterns, wanted.attentions, strict=True):
        torch.testing.assert_close(pattern, attention, rtol=0, atol=1e-9)


@pytest.mark.parametrize(("name", "theirs"), [("attn-only-2l", "attn-only-2l"), ("redwood_attn_2l", "redwood_attn_2l")])
def test_attention_only_models_are_those_of_transformer_lens(name: str, theirs: str) -> None:
    from transformer_lens import HookedTransformer

    lens = HookedTransformer.from_pretrained_no_processing(theirs, dtype=torch.float64)
    ours = scrub.load_model(name, torch.float64)
    tokens = torch.randint(ours.vocab_size, (2, 41), generator=torch.Generator().manual_seed(0))
    tokens[:, 0] = ours.bos_token_id
    with torch.no_grad():
        wanted, cache = lens.run_with_cache(tokens, prepend_bos=False)
    logits, patterns = logits_and_patterns(ours, tokens)
    torch.testing.assert_close(logits, wanted, rtol=0, atol=1e-9)
    for at, pattern in enumerate(patterns):
        torch.testing.assert_close(pattern, cache["pattern", at], rtol=0, atol=1e-9)


def test_the_published_study_of_gpt2s_heads() -> None:
    """Every number of its three tables, P(X) and the overlaps; tests/heads runs this on a model of its own."""
    settings = scrub.Settings(dtype="float32", device="cpu", progress=False)
    study = scrub.study_heads(scrub.load_model("gpt2"), count=8, settings=settings)
    assert study.expected == " X"
    assert apart(study, published()) == []


def test_a_tokenizer_from_another_repository() -> None:
    loaded = scrub.load_model("attn-only-2l")
    assert loaded.tokenizer is not None
    assert loaded.tokenizer.encode("two words", add_special_tokens=False).ids


@pytest.mark.parametrize("name", ["redwood_attn_2l", "gpt2", "attn-only-2l"])
def test_fetch(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert _status(["fetch", name]) == 0
    assert capsys.readouterr().out.startswith(f"model {name}: <Model {name}: ")
