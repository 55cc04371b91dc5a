"""The training loop: seeded, resumable, with a log that says when each mechanism forms.

A checkpoint is one safetensors file with parameters, optimiser state and progress.
"""

from __future__ import annotations

import json
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.torch import save
from tokenizers import Tokenizer
from torch import Tensor

from scrub.data.windows import with_begin
from scrub.measure.heads.roles import TARGETS, measure
from scrub.models.families import ModelConfig
from scrub.models.model import lower, make_model, save_model
from scrub.text.errors import ScrubError
from scrub.text.files import one_line, shown, write_atomically
from scrub.training.corpus import PreparedCorpus, WindowSampler
from scrub.training.loss import Objective
from scrub.training.optimiser import build_optimisers
from scrub.training.parameters import initial_parameters
from scrub.training.settings import Settings, schedule

INSPECTED = 16  # sequences


def save_checkpoint(
    path: Path, params: dict[str, Tensor], optimisers: list[torch.optim.Optimizer], step: int, tokens: int
) -> None:
    """Save what a resumed run needs; optimiser state goes under `optimiser.INDEX.STATE.PARAMETER`."""
    names = {id(value): name for name, value in params.items()}
    tensors = dict(params)
    for index, optimiser in enumerate(optimisers):
        for parameter, state in optimiser.state.items():
            tensors |= {f"optimiser.{index}.{key}.{names[id(parameter)]}": value for key, value in state.items()}
    held = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    write_atomically(path, save(held, {"step": str(step), "tokens": str(tokens)}))


def load_checkpoint(path: Path, params: dict[str, Tensor], optimisers: list[torch.optim.Optimizer]) -> tuple[int, int]:
    """Load a checkpoint into parameters and optimisers, in place; the steps and tokens it has seen.

    Raises ScrubError, with nothing changed, if it is of a model of another shape.
    """
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no dict
    if wrong := [name for name, value in params.items() if name not in tensors or tensors[name].shape != value.shape]:
        raise ScrubError(
            f"{shown(path)} is no checkpoint of this shape (its {wrong[0]} is missing or has other sizes): "
            "resume with the --shape that it was trained with"
        )
    with torch.no_grad():
        for name, value in params.items():
            value.copy_(tensors[name])
    for index, optimiser in enumerate(optimisers):
        for group in optimiser.param_groups:
            for parameter in group["params"]:
                name = next(name for name, value in params.items() if value is parameter)
                prefix, suffix = f"optimiser.{index}.", f".{name}"
                optimiser.state[parameter] = {
                    key[len(prefix) : -len(suffix)]: value.clone() if value.dim() == 0 else value.to(parameter.device)
                    for key, value in tensors.items()
                    if key.startswith(prefix) and key.endswith(suffix)
                }
    return int(metadata["step"]), int(metadata["tokens"])


class Run(ABC):
    """A run in a folder: `checkpoint.safetensors`, `stable.safetensors` (before the decay), `log.jsonl`.

    Parameters that are `fixed` stay as they begin.
    """

    def __init__(
        self, folder: Path, settings: Settings, config: ModelConfig, device: str, fixed: Collection[str] = ()
    ) -> None:
        """Set up parameters and optimisers; nothing is read from the folder yet."""
        self.folder, self.settings, self.config, self.device = folder, settings, config, device
        self.graph = lower(config)
        self.params = {name: value.to(device) for name, value in initial_parameters(self.graph, settings.seed).items()}
        trained = {name: value.requires_grad_() for name, value in self.params.items() if name not in fixed}
        self.optimisers = build_optimisers(
            trained,
            kind=settings.optimiser,
            lr=settings.lr,
            matrix_lr=settings.matrix_lr,
            weight_decay=settings.weight_decay,
        )
        self.peaks = [[group["lr"] for group in each.param_groups] for each in self.optimisers]
        self.step_count, self.tokens = 0, 0

    @abstractmethod
    def loss(self) -> Float[Tensor, ""]:
        """Compute the loss of the current step's batch, in nats, which gradients come of."""

    @abstractmethod
    def validation_loss(self) -> float:
        """Compute the mean loss on what isn't trained on, in nats."""

    @abstractmethod
    def mechanism(self) -> dict[str, Any]:
        """Measure what says how far the model is, for the log."""

    @abstractmethod
    def tokenizer(self) -> Tokenizer:
        """Give the tokenizer that the model's folder holds."""

    def step(self) -> float:
        """Train on one batch; its loss in nats."""
        factor = schedule(self.settings, self.tokens)
        for optimiser, peaks in zip(self.optimisers, self.peaks, strict=True):
            for group, peak in zip(optimiser.param_groups, peaks, strict=True):
                group["lr"] = peak * factor
        value = self.loss()
        torch.autograd.backward(value)
        torch.nn.utils.clip_grad_norm_(self.params.values(), self.settings.clip, foreach=True)
        for optimiser in self.optimisers:
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        self.step_count += 1
        self.tokens += self.settings.batch * self.config.n_ctx
        return value.item()

    def log(self, **entry: Any) -> None:
        """Append one line to the log."""
        with (self.folder / "log.jsonl").open("a") as file:
            file.write(json.dumps(entry) + "\n")

    def save(self, name: str) -> None:
        """Save a checkpoint that a run can resume from."""
        save_checkpoint(self.folder / name, self.params, self.optimisers, self.step_count, self.tokens)

    def resume(self, name: str) -> None:
        """Go on from a checkpoint; the settings may ask for another length or decay."""
        if not (self.folder / name).is_file():
            raise ScrubError(f"{one_line(self.folder)} has no checkpoint {one_line(name)!r} to go on from: train anew")
        self.step_count, self.tokens = load_checkpoint(self.folder / name, self.params, self.optimisers)

    def export(self) -> None:
        """Write the model's folder, as `scrub` loads it; its roles are for whoever measures it to write."""
        params = {
            name: value.detach().cpu().to(getattr(torch, self.settings.store)) for name, value in self.params.items()
        }
        save_model(make_model("trained", self.config, params, self.tokenizer()), self.folder)

    def run(self, progress: Callable[[int, float], None]) -> None:
        """Train to the end; `progress` is told the tokens so far and a running mean of the loss."""
        settings = self.settings
        started = saved = time.monotonic()
        self.log(event="start", step=self.step_count, tokens=self.tokens, settings=asdict(settings))
        first, stable, recent = self.tokens, self.tokens < settings.tokens - settings.decay_tokens, []
        while self.tokens < settings.tokens:
            before = self.tokens
            recent.append(self.step())
            progress(self.tokens, float(np.mean(recent[-50:])))
            if crossed(before, self.tokens, settings.evaluate_every) or self.tokens >= settings.tokens:
                entry = {"tokens": self.tokens, "loss": float(np.mean(recent)), "validation": self.validation_loss()}
                rate = (self.tokens - first) / (time.monotonic() - started)
                self.log(**entry, factor=schedule(settings, self.tokens), tokens_per_second=round(rate))
                recent = []
            if crossed(before, self.tokens, settings.inspect_every) or self.tokens >= settings.tokens:
                self.log(tokens=self.tokens, **self.mechanism())
            if stable and self.tokens >= settings.tokens - settings.decay_tokens:
                self.save("stable.safetensors")
                stable = False
            if time.monotonic() - saved > settings.save_every:
                self.save("checkpoint.safetensors")
                saved = time.monotonic()
        self.save("checkpoint.safetensors")
        self.export()


class Trainer(Run):
    """A run that predicts the next token of the source of Python."""

    def __init__(
        self, folder: Path, settings: Settings, config: ModelConfig, corpus: PreparedCorpus, device: str
    ) -> None:
        """Set up parameters, optimisers and samplers; nothing is read from the folder yet."""
        super().__init__(folder, settings, config, device)
        self.samplers = [WindowSampler(corpus.stdlib, config.n_ctx), WindowSampler(corpus.dependencies, config.n_ctx)]
        validation = WindowSampler(corpus.validation, config.n_ctx).draw(
            np.random.default_rng(1234), settings.validation_windows
        )
        self.validation = self.with_begin(validation)
        self.objective = Objective(self.graph)

    def with_begin(self, windows: NDArray[np.int32]) -> Int[Tensor, "sequence token"]:
        """Windows [count, n_ctx] as sequences that start with the begin token, on the run's device."""
        return torch.from_numpy(with_begin(windows, self.config.bos_token_id)).to(self.device)

    def draw_batch(self) -> Int[Tensor, "sequence token"]:
        """The sequences of the current step, a function of seed and step alone, so that resuming repeats nothing."""
        generator = np.random.default_rng([self.settings.seed, self.step_count])
        share = self.settings.stdlib_share if len(self.samplers[1].tokens) else 1.0
        stdlib = int(generator.binomial(self.settings.batch, share))
        counts = (stdlib, self.settings.batch - stdlib)
        draws = [sampler.draw(generator, count) for sampler, count in zip(self.samplers, counts, strict=True) if count]
        return self.with_begin(np.concatenate(draws))

    def loss(self) -> Float[Tensor, ""]:
        """Mean loss of the current batch, in nats a token."""
        return self.objective.loss(self.params, self.draw_batch())

    def validation_loss(self) -> float:
        """Mean loss on the fixed validation windows, in nats a token."""
        losses = [self.objective.token_losses(self.params, part) for part in torch.split(self.validation, 8)]
        return torch.cat(losses).mean().item()

    def mechanism(self) -> dict[str, Any]:
        """Measure the heads' attention (fractions, [layer][head]) and the losses on repeated tokens (nats, by half)."""
        model = make_model("training", self.config, {name: value.detach() for name, value in self.params.items()})
        found = measure(model, self.validation.cpu().numpy(), INSPECTED)
        heads = {
            where: {target: attention[target].means.round(4).tolist() for target in TARGETS}
            for where, attention in found.attention.items()
        }
        return {
            "heads": heads,
            "halves": {where: [round(half.estimate, 4) for half in both] for where, both in found.halves.items()},
        }

    def tokenizer(self) -> Tokenizer:
        """The one that was trained, or brought, first."""
        return Tokenizer.from_file(str(self.folder / "tokenizer.json"))


def crossed(before: int, after: int, every: int) -> bool:
    """Whether a multiple of `every` lies in (before, after]."""
    return before // every != after // every
