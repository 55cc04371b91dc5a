"""What the heads of an attention-only model attend to: previous token, current token, induction."""

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from scrub.training.loss import ModelConfig, token_losses

Patterns = list[Tensor]  # a layer each: attention probabilities, float [batch, heads, queries, keys]


@torch.no_grad()
def attention_patterns(params: Mapping[str, Tensor], config: ModelConfig, inputs: Tensor) -> Patterns:
    """The attention probabilities of every layer on `inputs`, int64 [batch, tokens]."""
    width, eps = (config.d_model,), config.layer_norm_eps
    positions = params["pos.weight"][: inputs.shape[1]]
    shortformer = config.positions == "shortformer"
    stream = F.embedding(inputs, params["embed.weight"]) + (0 if shortformer else positions)
    future = torch.ones(inputs.shape[1], inputs.shape[1], dtype=torch.bool, device=inputs.device).triu(1)
    patterns = []
    for layer in range(config.n_layers):
        name = f"layers.{layer}"
        normed = F.layer_norm(stream, width, params[f"{name}.ln.weight"], params[f"{name}.ln.bias"], eps)
        placed = normed + positions if shortformer else normed
        query, key, value = (
            torch.einsum("btm,hdm->bhtd", source, params[f"{name}.{matrix}"])
            for source, matrix in ((placed, "wq"), (placed, "wk"), (normed, "wv"))
        )
        scores = query @ key.mT / config.d_head**0.5
        patterns.append(scores.masked_fill(future, float("-inf")).softmax(dim=-1))
        stream = stream + torch.einsum("bhtd,hmd->btm", patterns[-1] @ value, params[f"{name}.wo"])
    return patterns


def previous_mask(inputs: Tensor) -> Tensor:
    """Where a key is the token before the query, bool [batch, queries, keys]."""
    tokens = inputs.shape[1]
    return torch.ones(tokens, tokens, dtype=torch.bool, device=inputs.device).tril(-1).triu(-1).expand(len(inputs), -1, -1)


def current_mask(inputs: Tensor) -> Tensor:
    """Where a key holds the query's own token (itself included), bool [batch, queries, keys]."""
    return (inputs[:, :, None] == inputs[:, None, :]).tril()


def induction_mask(inputs: Tensor) -> Tensor:
    """Where a key follows an earlier copy of the query's token, bool [batch, queries, keys]."""
    followed = F.pad(current_mask(inputs).tril(-1)[:, :, :-1], (1, 0))
    return followed.tril()


def head_scores(patterns: Patterns, mask: Tensor, queries: Tensor) -> list[list[float]]:
    """Mean attention inside a mask over the chosen queries (bool [batch, tokens]): a fraction per layer and head."""
    scores = []
    for pattern in patterns:
        inside = (pattern * mask[:, None]).sum(dim=-1).transpose(1, 2)[queries]  # [chosen, heads]
        scores.append([round(value, 4) for value in inside.mean(dim=0).tolist()])
    return scores


def repeated_sequences(candidates: Tensor, config: ModelConfig, count: int, generator: torch.Generator) -> Tensor:
    """Begin token, a random draw of candidates, and the same draw again: int64 [count, n_ctx + 1]."""
    half = config.n_ctx // 2
    draw = candidates[torch.randint(len(candidates), (count, half), generator=generator)]
    begin = torch.full((count, 1), config.bos_token_id)
    return torch.cat([begin, draw, draw], dim=1)


def repeated_report(params: Mapping[str, Tensor], config: ModelConfig, tokens: Tensor) -> dict[str, object]:
    """Heads and losses on repeated sequences; losses in nats, each half without its unpredictable first token."""
    half, inputs = config.n_ctx // 2, tokens[:, :-1]
    losses = token_losses(params, config, tokens)
    patterns = attention_patterns(params, config, inputs)
    second = (torch.arange(inputs.shape[1], device=inputs.device) > half).expand(len(inputs), -1)
    return {
        "loss_first_half": round(losses[:, 1:half].mean().item(), 4),
        "loss_second_half": round(losses[:, half + 1 :].mean().item(), 4),
        "previous": head_scores(patterns, previous_mask(inputs), second),
        "induction": head_scores(patterns, induction_mask(inputs), second),
    }


def natural_report(params: Mapping[str, Tensor], config: ModelConfig, tokens: Tensor) -> dict[str, object]:
    """Heads on natural text, over queries after the second token; induction where an earlier copy exists."""
    inputs = tokens[:, :-1]
    patterns = attention_patterns(params, config, inputs)
    late = (torch.arange(inputs.shape[1], device=inputs.device) >= 2).expand(len(inputs), -1)
    follows = induction_mask(inputs)
    return {
        "previous": head_scores(patterns, previous_mask(inputs), late),
        "current": head_scores(patterns, current_mask(inputs), late),
        "induction": head_scores(patterns, follows, late & follows.any(dim=-1)),
    }


def mechanism_report(
    params: Mapping[str, Tensor], config: ModelConfig, natural: Tensor, common: Tensor, count: int = 16, seed: int = 0
) -> dict[str, object]:
    """Everything above, on `count` sequences each.

    `natural` is int64 [any, n_ctx + 1]; `common` lists the commonest tokens, for repeated sequences that aren't
    dominated by tokens the model hardly ever saw.
    """
    device = natural.device
    generator = torch.Generator().manual_seed(seed)
    uniform = torch.tensor([token for token in range(config.vocab_size) if token != config.bos_token_id])
    return {
        "natural": natural_report(params, config, natural[:count]),
        "repeated_uniform": repeated_report(
            params, config, repeated_sequences(uniform, config, count, generator).to(device)
        ),
        "repeated_common": repeated_report(
            params, config, repeated_sequences(common.cpu(), config, count, generator).to(device)
        ),
    }
