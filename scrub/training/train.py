"""The training loop: seeded, resumable, with a log that says when each mechanism forms."""

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from scrub.training.checkpoint import load_checkpoint, save_atomically, save_checkpoint
from scrub.training.corpus import WindowSampler
from scrub.training.loss import ModelConfig, loss, token_losses
from scrub.training.mechanism import mechanism_report
from scrub.training.optimiser import build_optimisers
from scrub.training.parameters import initial_parameters
from scrub.training.prepare import PreparedCorpus

COMMON_TOKENS = 512


@dataclass(frozen=True)
class Settings:
    """One run. Token counts are positions trained on; learning rates are those of the stable phase."""

    tokens: int = 40_000_000
    decay_tokens: int = 10_000_000
    warmup_tokens: int = 300_000
    batch: int = 8  # sequences a step
    lr: float = 3e-3
    matrix_lr: float = 0.01
    optimiser: str = "muon"
    weight_decay: float = 0.01
    clip: float = 1.0  # largest norm of the whole gradient
    stdlib_share: float = 0.5  # fraction of the sequences that come from the standard library
    seed: int = 0
    evaluate_every: int = 250_000  # tokens
    inspect_every: int = 500_000  # tokens
    save_every: float = 120.0  # seconds
    validation_windows: int = 64


def schedule(settings: Settings, tokens: int) -> float:
    """The factor on the learning rates: linear warm-up, constant, linear decay to 0 at the last token."""
    warm = min(1.0, (tokens + 1) / max(1, settings.warmup_tokens))
    left = (settings.tokens - tokens) / max(1, settings.decay_tokens)
    return max(0.0, min(warm, left, 1.0))


class Trainer:
    """A run in a folder: `checkpoint.safetensors`, `stable.safetensors` (before the decay), `log.jsonl`."""

    def __init__(self, folder: Path, settings: Settings, config: ModelConfig, corpus: PreparedCorpus, device: str) -> None:
        """Set up parameters, optimisers and samplers; nothing is read from the folder yet."""
        self.folder, self.settings, self.config, self.device = folder, settings, config, device
        self.samplers = [WindowSampler(corpus.stdlib, config.n_ctx), WindowSampler(corpus.dependencies, config.n_ctx)]
        validation = WindowSampler(corpus.validation, config.n_ctx).draw(
            np.random.default_rng(1234), settings.validation_windows
        )
        self.validation = self.with_begin(validation)
        counts = np.bincount(self.samplers[0].tokens, minlength=config.vocab_size)
        counts[config.bos_token_id] = 0
        self.common = torch.from_numpy(np.argsort(-counts, kind="stable")[:COMMON_TOKENS].copy())
        self.params = {name: value.to(device) for name, value in initial_parameters(config, settings.seed).items()}
        for value in self.params.values():
            value.requires_grad_()
        self.optimisers = build_optimisers(
            self.params,
            kind=settings.optimiser,
            lr=settings.lr,
            matrix_lr=settings.matrix_lr,
            weight_decay=settings.weight_decay,
        )
        self.peaks = [[group["lr"] for group in each.param_groups] for each in self.optimisers]
        self.step_count, self.tokens = 0, 0

    def with_begin(self, windows: np.ndarray) -> Tensor:
        """Windows [count, n_ctx] as int64 sequences [count, n_ctx + 1] that start with the begin token."""
        begin = np.full((len(windows), 1), self.config.bos_token_id)
        return torch.from_numpy(np.concatenate([begin, windows], axis=1).astype(np.int64)).to(self.device)

    def draw_batch(self) -> Tensor:
        """The sequences of the current step, a function of seed and step alone, so that resuming repeats nothing."""
        generator = np.random.default_rng([self.settings.seed, self.step_count])
        share = self.settings.stdlib_share if len(self.samplers[1].tokens) else 1.0
        stdlib = int(generator.binomial(self.settings.batch, share))
        counts = (stdlib, self.settings.batch - stdlib)
        draws = [sampler.draw(generator, count) for sampler, count in zip(self.samplers, counts) if count]
        return self.with_begin(np.concatenate(draws))

    def step(self) -> float:
        """Train on one batch; its loss in nats a token."""
        factor = schedule(self.settings, self.tokens)
        for optimiser, peaks in zip(self.optimisers, self.peaks):
            for group, peak in zip(optimiser.param_groups, peaks):
                group["lr"] = peak * factor
        value = loss(self.params, self.config, self.draw_batch())
        value.backward()
        torch.nn.utils.clip_grad_norm_(self.params.values(), self.settings.clip, foreach=True)
        for optimiser in self.optimisers:
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        self.step_count += 1
        self.tokens += self.settings.batch * self.config.n_ctx
        return value.item()

    def validation_loss(self) -> float:
        """Mean loss on the fixed validation windows, in nats a token."""
        losses = [token_losses(self.params, self.config, part) for part in self.validation.split(8)]
        return torch.cat(losses).mean().item()

    def log(self, **entry: Any) -> None:
        """Append one line to the log."""
        with (self.folder / "log.jsonl").open("a") as file:
            file.write(json.dumps(entry) + "\n")

    def save(self, name: str) -> None:
        """Save a checkpoint that a run can resume from."""
        save_checkpoint(self.folder / name, self.params, self.optimisers, self.step_count, self.tokens)

    def resume(self, name: str) -> None:
        """Go on from a checkpoint; the settings may ask for another length or decay."""
        self.step_count, self.tokens = load_checkpoint(self.folder / name, self.params, self.optimisers)

    def run(self, progress: Callable[[int, float], None]) -> None:
        """Train to the end; `progress` is told the tokens so far and a running mean of the loss."""
        settings, started, saved = self.settings, time.monotonic(), time.monotonic()
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
                self.log(tokens=self.tokens, **mechanism_report(self.params, self.config, self.validation, self.common))
            if stable and self.tokens >= settings.tokens - settings.decay_tokens:
                self.save("stable.safetensors")
                stable = False
            if time.monotonic() - saved > settings.save_every:
                self.save("checkpoint.safetensors")
                saved = time.monotonic()
        self.save("checkpoint.safetensors")
        save_atomically(dict(self.params), self.folder / "model.safetensors", {"format": "pt"})


def crossed(before: int, after: int, every: int) -> bool:
    """Whether a multiple of `every` lies in (before, after]."""
    return before // every != after // every
