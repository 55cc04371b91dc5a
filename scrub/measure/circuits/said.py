"""Circuits and hypotheses, each said as the other: a circuit's edges as a module, a hypothesis as a set of edges."""

from __future__ import annotations

import json
from collections.abc import Set
from dataclasses import replace

from scrub.measure.circuits.circuit import Circuit
from scrub.measure.circuits.methods import check_whole
from scrub.models.model import Model, Spec, as_model
from scrub.paths.edges import Edge, as_edges, as_rules, by_head, edges_fed, read_edges
from scrub.study.hypothesis import ALL, Hypothesis
from scrub.study.metric import METRICS
from scrub.study.study import Study
from scrub.text.errors import ScrubError
from scrub.text.fields import check_arguments

_INDENT = " " * 8


@check_arguments
def circuit_of(hypothesis: Hypothesis, model: Spec, part: str = ALL) -> Circuit:
    """Say a part of a hypothesis as a set of edges of a model: `circuit_of(hypothesis, model)`.

    Raises ScrubError, which names the split or the rule, where no set of edges says it.
    """
    check_whole(hypothesis)
    model, rules = as_model(model), hypothesis.part(part)
    hypothesis.cut(model.graph, model.roles)  # whose mistakes are told as everywhere
    of = by_head(model.graph, model.roles, hypothesis.splits)
    kept = read_edges(hypothesis.edges, of) if hypothesis.edges else edges_fed(of, rules)
    return replace(Circuit.of(model, None, kept), name=hypothesis.name or "the hypothesis")


def module_of(circuit: Circuit, kept: Set[Edge], model: Model, claim: str, rules: bool = False) -> str:
    """Write a set of a circuit's edges as a hypothesis module: its edges or, with `rules`, rules that say the same.

    `module_of(circuit, circuit.top(100), model, "The 100 edges of the highest score.")`.
    """
    circuit.fits(model)
    if rules:
        lines = [str(rule) for rule in as_rules(by_head(model.graph).graph, kept)] or ["** -> x"]
        title = "circuit"
    else:
        lines, title = as_edges(kept), "edges"
        if not lines:
            raise ScrubError("no edge is kept, and a set of edges has at least one: keep some, or write rules")
    body = ("\n" + _INDENT).join([f"{title:<7} {lines[0]}", *(f"        {line}" for line in lines[1:])])
    declared = f'hypothesis = Hypothesis(\n    """\n{_INDENT}{body}\n    """\n)\n'
    escaped = claim.replace("\\", "\\\\").replace('"', '\\"')
    return f'"""{escaped}"""\n\nfrom scrub import Hypothesis\n\n{declared}'


def study_of(study: Study, name: str) -> str:
    """Write the study.py beside a module of that name, of another study: everything that a circuit leaves out is on y.

    `study_of(Study("** -> y", model="gpt2", data="pairs.jsonl", metric="logit_diff"), "circuit")`. Raises ScrubError
    for positions or a metric that are code of the study's own.
    """
    if not isinstance(study.positions, str):
        raise ScrubError("the study's positions are said by its own code, which another can't name: give --positions")
    if study.metric != METRICS.get(study.metric.name):
        raise ScrubError(
            f"the metric {study.metric.name!r} is the study's own, which another can't name: give --metric"
        )
    said = {
        "model": study.model,
        "data": study.data,
        "metric": study.metric.name,
        "positions": study.positions,
        "context": study.context,
        "bos": study.bos,
    }
    fields = "".join(
        f"    {field}={json.dumps(value) if isinstance(value, str) else str(value)},\n"
        for field, value in said.items()
        if value is not None
    )
    return (
        '"""How much of a behaviour does a circuit keep?\n\n100 % is the whole model, 0 % all of it on y: percent '
        'recovered is 100 times the faithfulness of the circuit.\n"""\n\nfrom scrub import Study\n\n'
        f'study = Study(\n{fields}    baseline="** -> y",\n    hypotheses=({json.dumps(name)},),\n)\n'
    )
