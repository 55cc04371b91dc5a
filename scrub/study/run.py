"""Running a study: one plan for all of its experiments, batch by batch, sequence by sequence into sums."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Bool

from scrub.data.for_model import sequences_for
from scrub.data.load import Sequences
from scrub.graph.node import Node
from scrub.models.model import Model, load_model
from scrub.plan.plan import Plan, compile_plan
from scrub.study.binding import Draw, make_draw
from scrub.study.experiments import UNSCRUBBED, Experiment, experiments, measured
from scrub.study.gates import Gates, check_gates
from scrub.study.hypothesis import ALL, Feature, Hypothesis
from scrub.study.measuring import MEASURES, Measuring
from scrub.study.parameters import Parameters
from scrub.study.result import BIGRAM, Result
from scrub.study.selection import select_positions
from scrub.study.settings import DTYPE_NAMES, SEQUENCES, Settings
from scrub.study.study import Study, Wanted, load_study
from scrub.text.errors import ScrubError
from scrub.text.looks import look
from scrub.text.progress import batches_bar

if TYPE_CHECKING:
    from scrub.show.picture import Picture

DTYPES: dict[str, torch.dtype] = {name: getattr(torch, name) for name in DTYPE_NAMES}


@dataclass(frozen=True)
class Prepared:
    """A study made ready: the model, the sequences, the selected positions, and every experiment as a graph."""

    study: Study
    hypotheses: Sequence[Hypothesis]
    model: Model
    data: Sequences
    selected: Bool[np.ndarray, "sequence position"]  # the positions that are scored
    experiments: Sequence[Experiment]
    settings: Settings

    @property
    def context(self) -> int:
        """The number of positions of every sequence."""
        return int(self.selected.shape[1])

    @property
    def graphs(self) -> dict[str, Node]:
        """The graph of every experiment by its name, as :func:`scrub.compare` takes them."""
        return {each.name: each.graph for each in self.experiments}

    @property
    def feeds(self) -> set[str]:
        """The sources that feed any of the experiments."""
        return {source for each in self.experiments for source in each.sources}

    @property
    def features(self) -> dict[str, Feature]:
        """The features that those sources agree on, each the one for this model."""
        return _features(self.hypotheses, self.model.name, self.feeds)

    def plan(self) -> Plan:
        """The plan of all experiments together. Printing it shows what runs."""
        return compile_plan(measured(self.experiments))

    def measuring(self, only: Iterable[str] | None = None) -> Measuring:
        """The plan of all experiments, or of the unscrubbed model and those named, ready to measure batches."""
        wanted = None if only is None else {UNSCRUBBED, *only}
        chosen = [each for each in self.experiments if wanted is None or each.name in wanted]
        return Measuring(chosen, self.model.params, self.context, self.settings.where)

    def draw(self, number: int) -> Draw:
        """One pairing of the sequences."""
        tokenizer, seed = self.model.tokenizer, self.settings.seed
        return make_draw(self.data.tokens.numpy(), self.selected, self.feeds, self.features, tokenizer, seed, number)

    @property
    def published(self) -> dict[str, float]:
        """What was published for each experiment, in percent recovered, if it was for this model."""
        if self.model.name.rpartition("/")[2] != self.study.published_model:
            return {}
        asked = ((e.name, e.hypothesis.published.get(e.part)) for e in self.experiments if e.hypothesis)
        return {name: percent for name, percent in asked if percent is not None}

    def show(self, hypothesis: str, part: str = ALL) -> Picture:
        """A drawing of one experiment. Raises ScrubError if there is none of that name."""
        names = {each.name: each for each in self.experiments if each.hypothesis}
        found = names.get(f"{hypothesis}/{part}")
        if found is None or found.hypothesis is None:
            raise ScrubError(f"there is no experiment {hypothesis}/{part}: there are {', '.join(names)}")
        made: Picture = look(self, "picture")(found.graph, f"{hypothesis}: {part}", found.hypothesis.claim)
        return made

    def run(self) -> Result:
        """Pass the gates, then measure everything. Raises GateError if a gate fails."""
        return run_prepared(self)

    def gates(self) -> Gates:
        """Pass the gates, or raise GateError."""
        dtypes = dict.fromkeys([torch.float64, torch.float32, DTYPES[self.settings.dtype]])
        return check_gates(self.experiments, self.model.graph, self.model.params, self.draw(0), list(dtypes))


def prepare(
    wanted: Wanted,
    model: str | Path | Model | None = None,
    data: str | Path | None = None,
    settings: Settings | None = None,
    parameters: Parameters | None = None,
) -> Prepared:
    """Load whatever a study needs, and lower its experiments. Raises ScrubError for any mistake in it.

    `parameters` are values of the hypotheses' parameters, instead of their defaults: see :func:`load_study`.
    """
    settings = settings or Settings()
    study, hypotheses = load_study(wanted, parameters)
    device, dtype = settings.where, DTYPES[settings.dtype]
    loaded = model.to(dtype, device) if isinstance(model, Model) else load_model(model or study.model, dtype, device)
    return prepare_study(study, hypotheses, loaded, data, settings)


def prepare_study(
    study: Study, hypotheses: Sequence[Hypothesis], model: Model, data: str | Path | None, settings: Settings
) -> Prepared:
    """Lower the experiments of a study on a model, and read the data. Raises ScrubError for any mistake in it."""
    lowered = experiments(study, hypotheses, model.graph, model.roles, settings.parts)
    _features(hypotheses, model.name, {source for each in lowered for source in each.sources})
    sequences = sequences_for(
        model,
        data or default_data(study, model),
        settings.sequences or SEQUENCES,
        settings.split,
        settings.column,
        context=settings.context or (study.context and min(study.context, model.n_ctx)),
        fewer=settings.sequences is None,
    )
    selected = select_positions(settings.positions or study.positions, sequences, study.data)
    return Prepared(study, hypotheses, model, sequences, selected, lowered, settings)


def run(
    wanted: Wanted,
    model: str | Path | Model | None = None,
    data: str | Path | None = None,
    settings: Settings | None = None,
    parameters: Parameters | None = None,
) -> Result:
    """Run studies or hypotheses: by path, by name, or themselves. See :func:`prepare` and :meth:`Prepared.run`."""
    return prepare(wanted, model, data, settings, parameters).run()


def run_prepared(prepared: Prepared) -> Result:
    """Pass the gates, then measure every experiment on every sequence of every draw.

    Memory is bounded by the batch: of each sequence only sums are kept. Raises GateError if a gate fails.
    """
    settings, count = prepared.settings, len(prepared.data.tokens)
    names = [each.name for each in prepared.experiments]
    gates = prepared.gates()
    sums = {measure: {name: np.zeros(count) for name in names} for measure in MEASURES}
    measuring = prepared.measuring()
    batches = -(-count // settings.batch) * settings.draws
    with batches_bar(settings.progress) as bar:
        task = bar.add_task(f"{len(names)} experiments", total=batches)
        for number in range(settings.draws):
            draw = prepared.draw(number)
            for members in draw.batches(settings.batch):
                batch = measuring.measure(draw, members)
                for (measure, name), values in batch.sums.items():
                    sums[measure][name][members] += values
                bar.advance(task)
    bigram = (prepared.data.bigram_losses().numpy() * prepared.selected).sum(1) * settings.draws
    result = Result(
        study=prepared.study.name,
        model=prepared.model.name,
        data=prepared.data.name,
        draws=settings.draws,
        seed=settings.seed,
        rows=[(e.hypothesis.name, e.part) for e in prepared.experiments if e.hypothesis],
        loss={**sums["loss"], BIGRAM: bigram},
        change=sums["change"],
        kl=sums["kl"],
        positions=prepared.selected.sum(1) * settings.draws,
        gates=gates,
        context=prepared.context if prepared.context != prepared.model.n_ctx else None,
        published=prepared.published,
    )
    return result.checked()


def _features(hypotheses: Sequence[Hypothesis], model: str, feeds: Iterable[str]) -> dict[str, Feature]:
    """The features that the sources of some experiments agree on, each the one for this model."""
    wanted = {source.rpartition("like ")[2] for source in feeds if "like " in source}
    found: dict[str, Feature] = {}
    for hypothesis in hypotheses:
        for name in hypothesis.features:
            if name in wanted:
                feature = hypothesis.feature(name, model)
                if found.setdefault(name, feature) != feature:
                    raise ScrubError(f"two hypotheses mean different features by {name!r}: give one another name")
    return found


def default_data(study: Study, model: Model) -> str:
    """The study's data; for another model than the study's, those that the model names, if it names some."""
    return study.data if model.name == study.model else model.config.data or study.data
