"""What is read of transformers' models, of families that have nothing in common but their layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from scrub.measure.parity.twin import Twin
from scrub.text.errors import ScrubError

LAYERS, HEADS, D_HEAD, POSITIONS, VOCAB = 3, 5, 8, 11, 29
ROPE: dict[str, Any] = {
    "hidden_size": HEADS * D_HEAD,
    "intermediate_size": 31,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "max_position_embeddings": 13,
}
GROUPED = {**ROPE, "num_key_value_heads": 1, "head_dim": D_HEAD}
N_EMBD = {"n_embd": HEADS * D_HEAD, "n_layer": LAYERS, "n_head": HEADS, "n_positions": 13}
NEO = {"hidden_size": HEADS * D_HEAD, "num_layers": LAYERS, "num_heads": HEADS, "window_size": 3}
NEO |= {"attention_types": [[["global", "local", "local"], 1]], "max_position_embeddings": 13}
FAMILIES: dict[str, tuple[dict[str, Any], Callable[[Any], nn.Module], torch.dtype]] = {
    "GPT2": (N_EMBD, lambda of: of.transformer.ln_f, torch.float64),
    "Llama": (GROUPED, lambda of: of.model.norm, torch.float32),
    "GPTNeoX": ({**ROPE, "rotary_pct": 0.5}, lambda of: of.gpt_neox.final_layer_norm, torch.float32),
    "Gemma2": ({**GROUPED, "final_logit_softcapping": 0.7}, lambda of: of.model.norm, torch.float32),
    "Olmo2": (ROPE, lambda of: of.model.norm, torch.float32),
    "GPTJ": ({**N_EMBD, "rotary_dim": 4}, lambda of: of.transformer.ln_f, torch.float32),
    "Phi": (ROPE, lambda of: of.model.final_layernorm, torch.float32),
    "GPTNeo": (NEO, lambda of: of.transformer.ln_f, torch.float32),
}
TOKENS = torch.randint(VOCAB, (2, POSITIONS), generator=torch.Generator().manual_seed(7))


def made(family: str, attention: str = "sdpa") -> Any:
    """A random model in float64, in training mode, whose norms and biases do something."""
    import transformers

    fields = {"vocab_size": VOCAB, "bos_token_id": 1, "eos_token_id": 1, "pad_token_id": 0, **FAMILIES[family][0]}
    config = getattr(transformers, f"{family}Config")(**fields, attn_implementation=attention)
    kind = getattr(transformers, "GPT2LMHeadModel" if family == "GPT2" else f"{family}ForCausalLM")
    theirs = kind(config).double().train()
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for value in theirs.parameters():
            value.add_(0.3 * torch.randn(value.shape, generator=generator, dtype=torch.float64))
    return theirs


@pytest.mark.parametrize("family", FAMILIES)
def test_streams_patterns_and_logits(family: str) -> None:
    _, norm_of, narrowest = FAMILIES[family]
    theirs = made(family, "eager")
    twin = Twin.of(theirs, LAYERS)
    with twin.ready():
        run = twin.run(TOKENS)
    assert run.computes_in == narrowest
    assert (len(run.streams), len(run.patterns)) == (LAYERS + 1, LAYERS)
    theirs.eval()
    with torch.no_grad():
        told = theirs(TOKENS, output_hidden_states=True, use_cache=False)
        assert [each.shape for each in run.streams] == [(2, POSITIONS, HEADS * D_HEAD)] * (LAYERS + 1)
        for here, there in zip(run.streams[:-1], told.hidden_states[:-1], strict=True):
            torch.testing.assert_close(here, there, rtol=0, atol=1e-9)
        logits = theirs.get_output_embeddings()(norm_of(theirs)(run.streams[-1]))
        cap = getattr(theirs.config, "final_logit_softcapping", None)
        logits = cap * (logits / cap).tanh() if cap else logits
    torch.testing.assert_close(logits, run.logits, rtol=0, atol=1e-9)
    torch.testing.assert_close(told.logits, run.logits, rtol=0, atol=1e-9)
    for pattern in run.patterns:
        assert pattern.shape == (2, HEADS, POSITIONS, POSITIONS)
        assert (pattern.sum(-1) - 1).abs().max() < 1e-5
        assert not pattern.triu(1).any()
    assert not run.streams[-1].requires_grad


def test_a_model_is_left_as_it_was() -> None:
    """Its attention, which parts of it are trained, and no hook; also where it fails."""
    theirs = made("Llama")
    theirs.model.layers[1].eval()
    modes = [each.training for each in theirs.modules()]
    theirs(TOKENS, output_attentions=True)  # which leaves hooks of transformers' own
    hooks = [(len(each._forward_hooks), len(each._forward_pre_hooks)) for each in theirs.modules()]
    twin = Twin.of(theirs, LAYERS)
    with twin.ready():
        assert (theirs.config._attn_implementation, theirs.training) == ("eager", False)
    with pytest.raises(ScrubError, match="transformers can't run LlamaForCausalLM"), twin.ready():
        twin.run(TOKENS + VOCAB)
    assert theirs.config._attn_implementation == "sdpa"
    assert [each.training for each in theirs.modules()] == modes
    assert [(len(each._forward_hooks), len(each._forward_pre_hooks)) for each in theirs.modules()] == hooks


def test_a_layer_that_changes_its_input_changes_no_stream() -> None:
    """And it may take it by name."""
    theirs = made("GPT2", "eager").eval()
    with Twin.of(theirs, LAYERS).ready():
        before = Twin.of(theirs, LAYERS).run(TOKENS).streams
    inner = theirs.transformer.h[1].forward

    def forward(hidden_states: Tensor, *given: Any, **named: Any) -> Any:
        found = inner(hidden_states.clone(), *given, **named)
        hidden_states.zero_()
        return found

    theirs.transformer.h[1].forward = forward
    with Twin.of(theirs, LAYERS).ready():
        after = Twin.of(theirs, LAYERS).run(TOKENS).streams
    for here, there in zip(before, after, strict=True):
        torch.testing.assert_close(here, there)


def test_what_gives_no_values_is_said() -> None:
    theirs = made("GPT2", "eager")
    with pytest.raises(ScrubError, match="no list of 5 layers"):
        Twin.of(theirs, 5)
    twin = Twin.of(theirs.transformer, LAYERS)
    with pytest.raises(ScrubError, match="GPT2Model predicts no tokens"), twin.ready():
        twin.run(TOKENS)
    twin = Twin.of(made("GPT2", "sdpa"), LAYERS)
    with pytest.raises(ScrubError, match=r"gives \d attention patterns and 4 residual streams of its 3 layers"):
        twin.run(TOKENS)  # as it isn't ready
