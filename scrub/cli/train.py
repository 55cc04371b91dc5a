"""`scrub train`: training a model like those in the box."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from scrub.cli.fields import Options, Words
from scrub.text.errors import ScrubError
from scrub.text.files import make_folder, one_line
from scrub.text.progress import bar_of
from scrub.training.settings import OF_PARENS, SHAPED, Settings

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from scrub.models.families import ModelConfig

SETTINGS = {
    "tokens": Words(None, "Positions to train on."),
    "decay_tokens": Words(None, "Of these, the last ones, with a decaying learning rate."),
    "batch": Words(None, "Sequences a step."),
    "lr": Words(None, "AdamW's learning rate."),
    "matrix_lr": Words(None, "Muon's learning rate."),
    "optimiser": Words(None, "muon or adamw"),
    "stdlib_share": Words(None, "Fraction of the sequences from the standard library."),
    "seed": Words(None, "Seed of parameters and batches."),
    "store": Words(None, "How the model's weights are stored: float32, float16 or bfloat16."),
}


def train(
    folder: Annotated[Path, typer.Argument(help="Where the run keeps its files.")],
    shape: Annotated[str, typer.Option(help=f"What to train: {' or '.join(SHAPED)}.")] = "attn2l",
    tokenizer: Annotated[
        str, typer.Option(help="Model whose tokenizer to take; without one, it is trained first.")
    ] = "",
    *,
    settings: Annotated[Settings, Options(SETTINGS)],
    threads: Annotated[int, typer.Option(help="CPU threads; 0 leaves torch's choice.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda")] = "auto",
    resume: Annotated[str, typer.Option(help="Checkpoint in the folder to go on from.")] = "",
) -> None:
    """Train a small model, on the source of Python and of the installed packages or on parens that are drawn."""
    import torch

    from scrub.training.classifier import Classifier
    from scrub.training.corpus import prepare
    from scrub.training.train import Run, Trainer

    if threads:
        torch.set_num_threads(threads)
    torch.set_flush_denormal(True)  # tiny optimiser moments are slow on the CPU and change nothing
    where, config = _device(device), _shape(shape)
    if tokenizer and shape in OF_PARENS:
        raise ScrubError(f"{shape} reads parens, by a tokenizer of its own: leave --tokenizer out")
    if shape in OF_PARENS:
        settings.check_drawn(shape)
    ready = _tokenizer(tokenizer, config.vocab_size) if tokenizer else None
    make_folder(folder)
    trainer: Run
    if shape in OF_PARENS:
        trainer = Classifier(folder, settings, config, where)
    else:
        trainer = Trainer(folder, settings, config, prepare(folder, config.vocab_size, ready), where)
    if resume:
        trainer.resume(resume)
    with bar_of("tokens") as bar:
        task = bar.add_task("training", total=settings.tokens)
        trainer.run(lambda done, value: bar.update(task, completed=done, description=f"loss {value:.3f}"))


def _device(device: str) -> str:
    import torch

    if device not in {"auto", "cpu", "cuda"} or (device == "cuda" and not torch.cuda.is_available()):
        raise ScrubError(f"there is no device {one_line(device)!r} here: use auto or cpu")
    return ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device


def _shape(name: str) -> ModelConfig:
    from scrub.training.parameters import SHAPES

    if name not in SHAPES:
        raise ScrubError(f"there is no shape {one_line(name)!r}: train one of {', '.join(SHAPES)}")
    return SHAPES[name]


def _tokenizer(model: str, vocab_size: int) -> Tokenizer:
    from scrub.models.checkpoints import TOKENIZER
    from scrub.models.checkpoints.tokenizer import read_tokenizer, tokenizer_file
    from scrub.models.find import find

    folder = find("models", model)
    return read_tokenizer(tokenizer_file(folder) or folder / TOKENIZER, vocab_size)
