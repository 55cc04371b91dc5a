"""Give heads roles by what they attend to, and find the tokens around which a previous-token head looks elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from scrub.data.examples import Examples, Tokens
from scrub.data.prompts.prompts import token_text
from scrub.data.repeated import begin_of, begun, common_tokens, repeated_tokens
from scrub.measure.heads.attention import attention_to_previous
from scrub.measure.heads.score import HeadScore, Scores, head_name
from scrub.measure.heads.scores import score_heads, scores_and_losses
from scrub.models.checkpoints import write_config
from scrub.models.kept import KeptFeature, fingerprint, keep_feature
from scrub.models.model import Model
from scrub.models.place import own_config
from scrub.study.statistics import Bootstrap
from scrub.text.errors import ScrubError
from scrub.text.files import make_folder
from scrub.text.numbers import Interval

# what roles call the scores that they rest on
TARGETS = {"previous": "previous token", "current": "same token", "induction": "prefix matching"}
# role -> what it attends to, where that is measured, and the least attention that makes a head one
RULES = {"prev": ("previous", "text", 0.4), "self": ("current", "text", 0.45), "ind": ("induction", "repeated", 0.2)}
COMMON_TOKENS = 500  # that repeated sequences are drawn from: a model hardly knows most of its vocabulary
MIN_OCCURRENCES = 100  # of a token: the mean over fewer says little
DEPARTS_FRACTION = 0.5  # of the head's mean attention to the previous position: a token below is atypical
MAX_TOKENS = 12  # of each kind


@dataclass(frozen=True)
class RoleEvidence:
    """Attention of a model's heads on text and on repeated random tokens, and its losses there.

    `halves` are the losses in nats on the first and second half of repeated sequences of common tokens.
    """

    model: Model
    attention: dict[str, dict[str, HeadScore]]  # text, repeated (common tokens), uniform (repeated, any token): targets
    loss: Interval
    halves: dict[str, tuple[Interval, Interval]]

    def roles(self) -> dict[str, list[tuple[int, int]]]:
        """Find the heads of each role.

        An induction head lies above a previous-token head, whose output its keys read; the other two roles
        are those of heads in the layers below the highest induction head. A head has one role: the rarer wins.
        """
        heads = {role: self._above(role) for role in RULES}
        lowest = min((layer for layer, _ in heads["prev"]), default=0)
        heads["ind"] = [(layer, head) for layer, head in heads["ind"] if layer > lowest]
        highest = max((layer for layer, _ in heads["ind"]), default=0)
        taken = set(heads["ind"])
        for role in ("prev", "self"):
            heads[role] = [head for head in heads[role] if head[0] < highest and head not in taken]
            taken.update(heads[role])
        return {role: those for role, those in heads.items() if those}

    def frame(self) -> pd.DataFrame:
        """List every head's attention (fractions) to each target with its interval, and its role."""
        roles = {head: role for role, heads in self.roles().items() for head in heads}
        rows = []
        for head in self.attention["text"]["previous"].heads:
            row: dict[str, object] = {"head": head_name(head), "role": roles.get(head, "")}
            for title, where, target in _COLUMNS:
                row[title] = self.attention[where][target].interval(head)
            rows.append(row)
        return pd.DataFrame(rows)

    @property
    def shown(self) -> list[HeadScore]:
        """The scores that :meth:`frame` has, in its order."""
        return [self.attention[where][target] for _, where, target in _COLUMNS]

    @property
    def content(self) -> dict[str, object]:
        """Everything that was measured, for JSON: attention as fractions, losses in nats a token."""
        return {
            "roles": {role: [head_name(head) for head in heads] for role, heads in self.roles().items()},
            "role_scores": self.scores(),
            "loss": self.loss,
            "halves": {name: {"first": first, "second": second} for name, (first, second) in self.halves.items()},
            "heads": self.frame(),
        }

    def scores(self) -> dict[str, dict[str, object]]:
        """List what every role rests on: the rule, and of each of its heads the attention with its 95 % interval."""
        scores: dict[str, dict[str, object]] = {}
        for role, heads in self.roles().items():
            target, where, least = RULES[role]
            intervals = {head_name(head): self.attention[where][target].interval(head) for head in heads}
            shown = {
                head: [round(value, 4) for value in (interval.estimate, interval.low, interval.high)]
                for head, interval in intervals.items()
            }
            scores[role] = {"attention_to": target, "on": where, "at_least": least, "heads": shown}
        return scores

    def _above(self, role: str) -> list[tuple[int, int]]:
        target, where, least = RULES[role]
        above = np.argwhere(self.attention[where][target].means >= least)
        return [(int(layer), int(head)) for layer, head in above]


_COLUMNS = [
    ("previous token", "text", "previous"),
    ("current token", "text", "current"),
    ("induction, text", "text", "induction"),
    ("induction, repeated", "repeated", "induction"),
    ("induction, uniform", "uniform", "induction"),
]


def measure(model: Model, on: Examples | Tokens, sequences: int = 64, progress: bool = False) -> RoleEvidence:
    """Measure every head of a model on text, and on repeated random tokens: the text's common ones, and any."""
    every = Examples.of(on)
    examples = every.some(np.arange(min(sequences, len(every)))).later()
    text = examples.tokens
    candidates = {
        "repeated": common_tokens(text, model.bos_token_id, COMMON_TOKENS),
        "uniform": np.setdiff1d(
            np.arange(model.vocab_size), [] if model.bos_token_id is None else [model.bos_token_id]
        ),
    }
    on_text, of_text = _attention_and_losses(model, examples, progress)
    attention, halves = {"text": on_text}, {}
    for name, tokens in candidates.items():
        drawn = repeated_tokens(tokens, text.shape[1] - 1, begin_of(text, model.bos_token_id), sequences, seed=0)
        half, begin = drawn.shape[1] // 2, begun(drawn)
        attention[name], losses = _attention_and_losses(model, Examples.of_repeated(drawn), progress)
        # the first token of either half follows the begin token, or a copy of the last: nothing predicts it
        halves[name] = (_mean(losses[:, begin : half - 1 + begin]), _mean(losses[:, half + begin :]))
    return RoleEvidence(model, attention, _mean(of_text, examples.documents), halves)


def measure_targets(model: Model, examples: Examples, seed: int = 0) -> dict[str, HeadScore]:
    """Measure the attention of every head to what roles are about, by target."""
    return _by_target(score_heads(model, examples, list(TARGETS.values()), seed))


def _attention_and_losses(
    model: Model, examples: Examples, progress: bool
) -> tuple[dict[str, HeadScore], Float[np.ndarray, "sequence position"]]:
    scores, losses = scores_and_losses(model, examples, list(TARGETS.values()), progress=progress)
    return _by_target(scores), losses


def _by_target(scores: Scores) -> dict[str, HeadScore]:
    return {target: scores[name] for target, name in TARGETS.items()}


def write_roles(model: str, measured: RoleEvidence, measured_on: str) -> Path:
    """Write the roles of a model's heads, and the scores that they rest on, into its config.json, whose path it is.

    Raises ScrubError if there is no such model, or it can't be written.
    """
    path, fields = own_config(model)
    scores = {"measured_on": measured_on, **measured.scores()}
    make_folder(path.parent)
    write_config(path, {**fields, "roles": measured.roles(), "role_scores": scores})
    return path


def _mean(values: np.ndarray, documents: np.ndarray | None = None) -> Interval:
    bootstrap = Bootstrap(np.full(len(values), values.shape[1]), 0, documents)
    return bootstrap.interval(bootstrap.means(values.sum(1)[None])[0])


@dataclass(frozen=True)
class Departure:
    """A token, how often it was seen, and the head's mean attention to the previous position there (a fraction)."""

    token: int
    text: str
    seen: int
    attention: float


@dataclass(frozen=True)
class Typicality:
    """The tokens that make a position atypical when they are the current or the previous one."""

    mean: float
    current: tuple[Departure, ...]
    previous: tuple[Departure, ...]
    explained: float  # the fraction of the variance of the attention that the two classes explain
    atypical: float  # the fraction of positions


def measure_typicality(
    model: Model, text: Int[np.ndarray, "sequence position_plus_one"], role: str = "prev"
) -> Typicality:
    """Measure it for the one head of a role. Raises ScrubError if the role has no head, or the model no tokenizer."""
    heads = model.roles.get(role, ())
    if not heads or model.tokenizer is None:
        raise ScrubError(f"{model.name} has no head of the role {role!r}, or no tokenizer: 'scrub roles --write' first")
    layer, head = heads[0]
    attention = attention_to_previous(model, text, layer, head)[:, 1:]
    now, before = text[:, 1:-1], text[:, :-2]
    previous = _departures(model, attention, before)
    # a token that departs only because of the one before it isn't listed for itself
    unexplained = ~np.isin(before, [d.token for d in previous])
    current = _departures(model, attention[unexplained], now[unexplained]) if unexplained.any() else ()
    atypical = ~unexplained | np.isin(now, [d.token for d in current])
    classes = [part for part in (atypical, ~atypical) if part.any()]  # one, where the head never departs
    between = sum(part.mean() * (attention[part].mean() - attention.mean()) ** 2 for part in classes)
    explained = float(between / attention.var()) if len(classes) > 1 else 0.0
    return Typicality(float(attention.mean()), current, previous, explained, float(atypical.mean()))


def keep_typicality(model: Model, found: Typicality, measured_on: str, name: str = "typicality") -> Path:
    """Keep the two classes as a feature of a model, under the name that hypotheses call it, and say where.

    Raises ScrubError if it can't be written.
    """
    ids = {of: [each.token for each in getattr(found, of)] for of in ("current", "previous")}
    texts = {of: [each.text for each in getattr(found, of)] for of in ids}
    return keep_feature(model, name, KeptFeature(fingerprint(model), measured_on, texts=texts, **ids))


def _departures(
    model: Model, attention: Float[np.ndarray, "..."], tokens: Int[np.ndarray, "..."]
) -> tuple[Departure, ...]:
    flat = tokens.ravel()
    seen = np.bincount(flat, minlength=model.vocab_size)
    means = np.bincount(flat, weights=attention.ravel(), minlength=model.vocab_size) / np.maximum(seen, 1)
    below = np.flatnonzero((seen >= MIN_OCCURRENCES) & (means < DEPARTS_FRACTION * attention.mean()))
    missing = seen[below] * (attention.mean() - means[below])  # the attention that is elsewhere because of it
    most = below[np.argsort(-missing, kind="stable")[:MAX_TOKENS]]
    return tuple(
        Departure(
            int(token),
            token_text(int(token), model.tokenizer),
            int(seen[token]),
            float(means[token]),
        )
        for token in most
    )
