"""Circuits and hypotheses, each said as the other: a circuit's edges as a module, a hypothesis as a set of edges."""

from __future__ import annotations

import json
from collections.abc import Set

from scrub.measure.circuits.circuit import Circuit
from scrub.models.model import Model, Spec, as_model
from scrub.paths.edges import Edge, as_edges, as_rules, by_head, edges_fed, read_edges
from scrub.study.hypothesis import ALL, Hypothesis
from scrub.text.errors import ScrubError
from scrub.text.fields import check_arguments

_INDENT = " " * 8


@check_arguments
def circuit_of(hypothesis: Hypothesis, model: Spec, part: str = ALL) -> Circuit:
    """Say a part of a hypothesis as a set of edges of a model: `circuit_of(hypothesis, model)`.

    Raises ScrubError, which names the split or the rule, where no set of edges says it.
    """
    if split := next((each for each in hypothesis.splits if each.kind != "heads"), None):
        raise ScrubError(f"no set of edges says '{split}': an edge is whole, at all positions")
    model, rules = as_model(model), hypothesis.part(part)
    hypothesis.cut(model.graph, model.roles)  # whose mistakes are told as everywhere
    of = by_head(model.graph, model.roles, hypothesis.splits)
    kept = read_edges(hypothesis.edges, of) if hypothesis.edges else edges_fed(of, rules)
    return Circuit.of(model, None, kept)


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
    body = ("\n" + _INDENT).join([f"{title:<7} {lines[0]}", *(f"        {line}" for line in lines[1:])])
    declared = f'hypothesis = Hypothesis(\n    """\n{_INDENT}{body}\n    """\n)\n'
    return f'"""{claim}"""\n\nfrom scrub import Hypothesis\n\n{declared}'


def study_of(model: str, data: str, metric: str, name: str) -> str:
    """Write the study.py beside a module of that name: everything that the circuit leaves out is on y."""
    quoted = {"model": model, "data": data, "metric": metric}
    fields = "".join(f"    {field}={json.dumps(value)},\n" for field, value in quoted.items())
    return (
        '"""How much of a behaviour does a circuit keep?\n\n100 % is the whole model, 0 % all of it on y: percent '
        'recovered is 100 times the faithfulness of the circuit.\n"""\n\nfrom scrub import Study\n\n'
        f'study = Study(\n{fields}    positions="all",\n    baseline="** -> y",\n    '
        f"hypotheses=({json.dumps(name)},),\n)\n"
    )
