"""What a study of 20 GPT-2 experiments costs: `python benchmarks/gpt2_study.py [--shape gpt2]`.

Five hypotheses about induction, with the parts q, k, v and all, on random weights of a GPT-2's shape, of a small
Llama's (llama-mini, with as many weights as gpt2-mini), or on a model of such an architecture (--model). The cost hangs
on which heads the roles name, not on what the heads do: after the first induction head every experiment has a model of
its own. What is printed is said in benchmarks/study.py.
"""

from __future__ import annotations

from functools import partial
from typing import Annotated

import numpy as np
import typer
from study import report

from scrub import Settings, load_model
from scrub.data.examples import Examples
from scrub.models.families import ModelConfig, decoder, gpt2
from scrub.models.model import Model, lower, make_model
from scrub.study.experiments import experiments
from scrub.study.hypothesis import Hypothesis
from scrub.study.run import Trial
from scrub.study.study import Study
from scrub.training.parameters import SHAPES, initial_parameters

QUARTER = 0.25  # of the positions are selected, as in the shipped study

# GPT-2 small's roles are heads that the literature names: Wang et al. 2022 (https://arxiv.org/abs/2211.00593), 3.2
ROLES = {
    "gpt2-mini": {"prev": [(0, 3), (1, 5)], "ind": [(2, 1), (2, 6), (3, 2)]},
    "gpt2": {"prev": [(2, 2), (4, 11)], "ind": [(5, 5), (5, 8), (5, 9), (6, 9)]},
    "tiny": {"prev": [(0, 1)], "ind": [(1, 0)]},
}
ROLES["llama-mini"] = ROLES["gpt2-mini"]
CONFIGS: dict[str, ModelConfig] = {
    "gpt2-mini": SHAPES["gpt2-mini"],
    "llama-mini": decoder.Config(
        n_layers=4,
        n_heads=8,
        n_kv_heads=2,
        d_model=256,
        d_head=32,
        d_mlp=683,  # with a gate, as many weights as 1024 without
        n_ctx=300,
        vocab_size=4096,
        bos_token_id=0,
        layer_norm_eps=1e-5,
        norm="rms",
        gated=True,
        activation="silu",
        rotary=(decoder.Rotary(width=32, base=1e4),),
    ),
    "gpt2": gpt2.Config(
        n_layers=12,
        n_heads=12,
        d_model=768,
        d_head=64,
        d_mlp=3072,
        n_ctx=1024,
        vocab_size=50257,
        bos_token_id=0,
        layer_norm_eps=1e-5,
    ),
    "tiny": gpt2.Config(
        n_layers=2,
        n_heads=3,
        d_model=6,
        d_head=2,
        d_mlp=11,
        n_ctx=7,
        vocab_size=13,
        bos_token_id=0,
        layer_norm_eps=1e-5,
    ),
}
CONFIGS["gpt2-xl"] = CONFIGS["gpt2"].model_copy(
    update={"n_layers": 48, "n_heads": 25, "d_model": 1600, "d_mlp": 6400}
)  # of which only the forward pass is timed
HYPOTHESES = {
    "embeddings": """
        splits  **/a*.ind/k/a*.prev              by mask "previous"
        q       **/a*.ind/q/{a*,m*}              -> y
        k       **/a*.ind/k                      -> y
                **/a*.ind/k/a*.prev[previous]/v/emb -> x
        v       **/a*.ind/v/{a*,m*}              -> y
    """,
    "first_mlp": """
        splits  **/a*.ind/k/a*.prev              by mask "previous"
        q       **/a*.ind/q/{a*,m*}              -> y
                **/a*.ind/q/m0                   -> x
        k       **/a*.ind/k                      -> y
                **/a*.ind/k/a*.prev[previous]/v  -> x
        v       **/a*.ind/v/{a*,m*}              -> y
                **/a*.ind/v/m0                   -> x
    """,
    "mlps": """
        q       **/a*.ind/q/a*                   -> y
        k       **/a*.ind/k                      -> y
                **/a*.ind/k/a*.prev              -> x
                **/a*.ind/k/m*/a*.prev           -> x
        v       **/a*.ind/v/a*                   -> y
    """,
    "last_three": """
        splits  **/a*.ind/{q,k,v}/a*             by mask "last three"
        q       **/a*.ind/q/a*                   -> y
                **/a*.ind/q/a*[last three]/v     -> x
        k       **/a*.ind/k/a*                   -> y
                **/a*.ind/k/a*[last three]/v     -> x
        v       **/a*.ind/v/a*                   -> y
                **/a*.ind/v/a*[last three]/v     -> x
    """,
    "prev_whole": """
        splits  **/a*.ind/{q,k,v}/a*.rest        by mask "last three"
        q       **/a*.ind/q/a*.rest*             -> y
                **/a*.ind/q/a*.rest[last three]/v -> x
        k       **/a*.ind/k/a*.rest*             -> y
                **/a*.ind/k/a*.rest[last three]/v -> x
        v       **/a*.ind/v/a*.rest*             -> y
                **/a*.ind/v/a*.rest[last three]/v -> x
    """,
}


def random_model(shape: str) -> Model:
    """A model of random weights, with roles."""
    config = CONFIGS[shape].model_copy(update={"roles": ROLES.get(shape, {})})
    return make_model(shape, config, initial_parameters(lower(config), 0))


def trial(shape: str, model: str | None, sequences: int, positions: int | None, batch: int) -> Trial:
    """The study on random sequences of `positions` tokens."""
    settings = Settings(sequences, batch=batch)
    loaded = (load_model(model) if model else random_model(shape)).to(device=settings.where)
    generator = np.random.default_rng(0)
    tokens = generator.integers(loaded.vocab_size, size=(sequences, (positions or loaded.n_ctx) + 1))
    hypotheses = [Hypothesis(rules, name=name) for name, rules in HYPOTHESES.items()]
    study = Study(baseline="**/a*.ind -> y", name="gpt2")
    examples = Examples(tokens, generator.random((sequences, tokens.shape[1] - 1)) < QUARTER, name="random")
    of = experiments(study, hypotheses, loaded.graph, loaded.roles)
    return Trial(study, hypotheses, loaded, examples, of, settings)


def main(
    shape: Annotated[str, typer.Option(help=f"One of {', '.join(CONFIGS)}.")] = "gpt2-mini",
    model: Annotated[str | None, typer.Option(help="A model with the roles prev and ind, instead.")] = None,
    sequences: Annotated[int, typer.Option(help="How many.")] = 16,
    positions: Annotated[int | None, typer.Option(help="Tokens of a sequence: the model's context by default.")] = None,
    batch: Annotated[int, typer.Option(help="Sequences at once.")] = 8,
    repeats: Annotated[int, typer.Option(help="Rounds.")] = 5,
    alone: Annotated[bool, typer.Option(help="Also run every experiment on its own.")] = True,
) -> None:
    """Time a study of 20 GPT-2 experiments in multiples of a plain forward pass."""
    make = partial(trial, shape, model, sequences, positions, batch)
    report(model or shape, make, repeats, alone)


if __name__ == "__main__":
    typer.run(main)
