"""A folder of the layout of Redwood's repository: random weights of a small model, and tokens that it wrote itself."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from scrub import load_model

HEADS, D_HEAD, D_MODEL, N_CTX, VOCABULARY = 7, 3, 11, 29, 37  # roles name heads up to 6
ROWS, POSITIONS = 43, 13
TOKENS, MASK = "validation_data.pt", "mask_repeat_candidates.pkl"
PUBLISHED = {  # the design's table: q, k, v, all
    "naive": (51, 79, 90, 35),
    "refined_1": (76, 86, 97, 62),
    "refined_2": (87, 91, 97, 76),
    "refined_3": (98, 97, 97, 91),
    "refined_4": (97, 91, 97, 86),
    "refined_5": (97, 94, 97, 89),
}


def state(seed: int = 0, vocabulary: int = VOCABULARY) -> dict[str, Tensor]:
    """Random weights by TransformerLens's names, and the buffers that such a file has."""
    g = torch.Generator().manual_seed(seed)

    def drawn(*shape: int, scale: float = 1.0) -> Tensor:
        return scale * torch.randn(shape, generator=g)

    found = {
        "embed.W_E": drawn(vocabulary, D_MODEL),
        "pos_embed.W_pos": drawn(N_CTX, D_MODEL),
        "ln_final.w": 1 + drawn(D_MODEL, scale=0.1),
        "ln_final.b": drawn(D_MODEL, scale=0.1),
        "unembed.W_U": drawn(D_MODEL, vocabulary),
        "unembed.b_U": torch.zeros(vocabulary),
    }
    for at in range(2):
        name = f"blocks.{at}"
        found |= {f"{name}.ln1.w": 1 + drawn(D_MODEL, scale=0.1), f"{name}.ln1.b": drawn(D_MODEL, scale=0.1)}
        found |= {f"{name}.attn.W_{slot}": drawn(HEADS, D_MODEL, D_HEAD, scale=0.5) for slot in "QKV"}
        found |= {f"{name}.attn.b_{slot}": torch.zeros(HEADS, D_HEAD) for slot in "QKV"}
        found |= {
            f"{name}.attn.W_O": drawn(HEADS, D_HEAD, D_MODEL, scale=0.5),
            f"{name}.attn.b_O": torch.zeros(D_MODEL),
            f"{name}.attn.mask": torch.ones(N_CTX, N_CTX, dtype=torch.bool).tril(),
            f"{name}.attn.IGNORE": torch.tensor(-1e5),
        }
    return found


def write_model(folder: Path, weights: Mapping[str, Tensor] | None = None) -> Path:
    """The file of weights alone."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(dict(weights or state()), folder / "et_model_state_dict.pt")
    return folder


def write_data(folder: Path, tokens: Tensor, mask: Tensor | None) -> Path:
    """The two files of data."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(tokens, folder / TOKENS)
    if mask is not None:
        torch.save(mask, folder / MASK)
    return folder


def tokens_and_mask(
    rows: int = ROWS, positions: int = POSITIONS, seed: int = 1, vocabulary: int = VOCABULARY
) -> tuple[Tensor, Tensor]:
    """Token ids [row, position + 1], a begin token first, and about half of the positions."""
    g = torch.Generator().manual_seed(seed)
    tokens = torch.randint(vocabulary - 2, (rows, positions + 1), generator=g)
    tokens[:, 0] = vocabulary - 2
    return tokens, torch.rand(tokens.shape, generator=g) < 0.5


def written_by(folder: Path, positions: int = POSITIONS, rows: int = ROWS, seed: int = 5) -> Tensor:
    """Token ids [row, position + 1] that the model itself wrote, so that its loss is low."""
    model, generator = load_model(folder, torch.float64), torch.Generator().manual_seed(seed)
    tokens = torch.full((rows, 1), int(model.bos_token_id or 0))
    for _ in range(positions):
        chances = model(tokens)[:, -1].softmax(-1)
        tokens = torch.cat([tokens, torch.multinomial(chances, 1, generator=generator)], 1)
    return tokens
