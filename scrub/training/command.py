"""The command that trains a model in the box."""

from pathlib import Path
from typing import Annotated

import typer

from scrub.errors import ScrubError
from scrub.files import one_line, unwritable
from scrub.find import find
from scrub.training.settings import Settings
from scrub.training.shapes import SHAPES

DEFAULTS = Settings()


def train(
    folder: Annotated[Path, typer.Argument(help="Where the run keeps its files.")],
    shape: Annotated[str, typer.Option(help=f"What to train: {' or '.join(SHAPES)}.")] = "attn2l",
    tokenizer: Annotated[
        str, typer.Option(help="Model whose tokenizer to take; without one, it is trained first.")
    ] = "",
    tokens: Annotated[int, typer.Option(help="Positions to train on.")] = DEFAULTS.tokens,
    decay_tokens: Annotated[int, typer.Option(help="Of these, the last ones, with a decaying learning rate.")] = (
        DEFAULTS.decay_tokens
    ),
    batch: Annotated[int, typer.Option(help="Sequences a step.")] = DEFAULTS.batch,
    lr: Annotated[float, typer.Option(help="AdamW's learning rate.")] = DEFAULTS.lr,
    matrix_lr: Annotated[float, typer.Option(help="Muon's learning rate.")] = DEFAULTS.matrix_lr,
    optimiser: Annotated[str, typer.Option(help="muon or adamw")] = DEFAULTS.optimiser,
    stdlib_share: Annotated[float, typer.Option(help="Fraction of the sequences from the standard library.")] = (
        DEFAULTS.stdlib_share
    ),
    seed: Annotated[int, typer.Option(help="Seed of parameters and batches.")] = DEFAULTS.seed,
    threads: Annotated[int, typer.Option(help="CPU threads; 0 leaves torch's choice.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda")] = "auto",
    resume: Annotated[str, typer.Option(help="Checkpoint in the folder to go on from.")] = "",
) -> None:
    """Train a small model on the source of Python and of the installed packages."""
    import torch
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from scrub.checkpoint import TOKENIZER, read_tokenizer
    from scrub.training.prepare import prepare
    from scrub.training.train import Trainer

    if threads:
        torch.set_num_threads(threads)
    torch.set_flush_denormal(True)  # tiny optimiser moments are slow on the CPU and change nothing
    if device not in {"auto", "cpu", "cuda"} or (device == "cuda" and not torch.cuda.is_available()):
        raise ScrubError(f"there is no device {one_line(device)!r} here: use auto or cpu")
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    settings = Settings(
        tokens=tokens,
        decay_tokens=decay_tokens,
        batch=batch,
        lr=lr,
        matrix_lr=matrix_lr,
        optimiser=optimiser,
        stdlib_share=stdlib_share,
        seed=seed,
    )
    if shape not in SHAPES:
        raise ScrubError(f"there is no shape {one_line(shape)!r}: train one of {', '.join(SHAPES)}")
    config = SHAPES[shape]
    vocabulary = find("models", tokenizer) / TOKENIZER if tokenizer else None
    ready = read_tokenizer(vocabulary, config.vocab_size) if vocabulary else None
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(folder, error) from error
    trainer = Trainer(folder, settings, config, prepare(folder, config.vocab_size, ready), device)
    if resume:
        trainer.resume(resume)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns) as bar:
        task = bar.add_task("training", total=tokens)
        trainer.run(lambda done, value: bar.update(task, completed=done, description=f"loss {value:.3f}"))
