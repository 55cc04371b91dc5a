"""Causal scrubbing of transformers on explicit computational graphs."""

from importlib import import_module
from typing import TYPE_CHECKING

from scrub.show import register_looks
from scrub.text.version import __version__

if TYPE_CHECKING:
    from scrub.data.examples import Examples
    from scrub.data.for_model import read_prompts
    from scrub.data.prompts.generate import given_pair, given_prompt, prompt_pairs, repeated_prompts
    from scrub.graph.node import node
    from scrub.measure.circuits.attribution import Attribution, attribute
    from scrub.measure.circuits.circuit import Circuit
    from scrub.measure.circuits.faithfulness import Faithfulness, faithfulness
    from scrub.measure.circuits.files import read_circuit, write_circuit
    from scrub.measure.circuits.said import circuit_of
    from scrub.measure.circuits.submission import check_submission, write_submission
    from scrub.measure.generation.generation import Generation, generate
    from scrub.measure.heads.scores import score_heads
    from scrub.measure.interventions.ablation import Ablation, ablate
    from scrub.measure.interventions.patching import Patching, patch
    from scrub.measure.parity.parity import Parity, parity
    from scrub.measure.search.found import Found
    from scrub.measure.search.search import search
    from scrub.measure.stream.direct import DirectAttribution, direct_attribution
    from scrub.measure.stream.lens import LogitLens, logit_lens
    from scrub.measure.study.heads import HeadStudy, study_heads
    from scrub.models.model import Model, load_model, save_model
    from scrub.paths.edges import Edge
    from scrub.show.charts.attention import attention_chart
    from scrub.show.charts.bars import bar_chart, head_bars
    from scrub.show.charts.generation import generation_chart
    from scrub.show.charts.heatmap import head_map, heat_map
    from scrub.show.charts.interventions import ablation_chart, patching_chart
    from scrub.show.reports.report import Report, make_report
    from scrub.show.viewer import viewer_json
    from scrub.show.views import listing, to_networkx
    from scrub.store.comparisons.comparison import Comparison, compare
    from scrub.store.comparisons.leaderboard import Leaderboard, leaderboard
    from scrub.store.comparisons.models import AcrossModels, compare_models
    from scrub.store.comparisons.moved import Moved, moved
    from scrub.store.results.folder import Results
    from scrub.store.results.read import StudyResults, known
    from scrub.store.sweeps.grid import Grid
    from scrub.store.sweeps.sweep import Swept, sweep
    from scrub.study.hypothesis import Hypothesis
    from scrub.study.metric import Metric
    from scrub.study.result import Result
    from scrub.study.run import prepare, run
    from scrub.study.settings import Settings
    from scrub.study.study import Study, load_study
    from scrub.text.errors import GateError, ScrubError, ScrubWarning

__all__ = [
    "Ablation",
    "AcrossModels",
    "Attribution",
    "Circuit",
    "Comparison",
    "DirectAttribution",
    "Edge",
    "Examples",
    "Faithfulness",
    "Found",
    "GateError",
    "Generation",
    "Grid",
    "HeadStudy",
    "Hypothesis",
    "Leaderboard",
    "LogitLens",
    "Metric",
    "Model",
    "Moved",
    "Parity",
    "Patching",
    "Report",
    "Result",
    "Results",
    "ScrubError",
    "ScrubWarning",
    "Settings",
    "Study",
    "StudyResults",
    "Swept",
    "TokenFeature",
    "__version__",
    "ablate",
    "ablation_chart",
    "attention_chart",
    "attribute",
    "bar_chart",
    "check_submission",
    "circuit_of",
    "compare",
    "compare_models",
    "direct_attribution",
    "faithfulness",
    "generate",
    "generation_chart",
    "given_pair",
    "given_prompt",
    "head_bars",
    "head_map",
    "heat_map",
    "known",
    "leaderboard",
    "listing",
    "load_model",
    "load_study",
    "logit_lens",
    "make_report",
    "moved",
    "node",
    "parity",
    "patch",
    "patching_chart",
    "prepare",
    "prompt_pairs",
    "read_circuit",
    "read_prompts",
    "repeated_prompts",
    "run",
    "save_model",
    "score_heads",
    "search",
    "study_heads",
    "sweep",
    "to_networkx",
    "viewer_json",
    "write_circuit",
    "write_submission",
]

_HOMES = {
    "scrub.show.viewer": ("viewer_json",),
    "scrub.measure.circuits.submission": ("check_submission", "write_submission"),
    "scrub.paths.edges": ("Edge",),
    "scrub.store.comparisons.comparison": ("Comparison", "compare"),
    "scrub.store.comparisons.leaderboard": ("Leaderboard", "leaderboard"),
    "scrub.store.comparisons.models": ("AcrossModels", "compare_models"),
    "scrub.store.comparisons.moved": ("Moved", "moved"),
    "scrub.text.errors": ("GateError", "ScrubError", "ScrubWarning"),
    "scrub.data.examples": ("Examples",),
    "scrub.data.for_model": ("read_prompts",),
    "scrub.graph.node": ("node",),
    "scrub.show.views": ("listing", "to_networkx"),
    "scrub.measure.study.heads": ("HeadStudy", "study_heads"),
    "scrub.measure.circuits.attribution": ("Attribution", "attribute"),
    "scrub.measure.circuits.circuit": ("Circuit",),
    "scrub.measure.circuits.faithfulness": ("Faithfulness", "faithfulness"),
    "scrub.measure.circuits.files": ("read_circuit", "write_circuit"),
    "scrub.measure.circuits.said": ("circuit_of",),
    "scrub.measure.interventions.ablation": ("Ablation", "ablate"),
    "scrub.measure.interventions.patching": ("Patching", "patch"),
    "scrub.measure.generation.generation": ("Generation", "generate"),
    "scrub.measure.heads.scores": ("score_heads",),
    "scrub.measure.parity.parity": ("Parity", "parity"),
    "scrub.measure.search.found": ("Found",),
    "scrub.measure.search.search": ("search",),
    "scrub.measure.stream.direct": ("DirectAttribution", "direct_attribution"),
    "scrub.measure.stream.lens": ("LogitLens", "logit_lens"),
    "scrub.models.model": ("Model", "load_model", "save_model"),
    "scrub.data.prompts.generate": ("given_pair", "given_prompt", "prompt_pairs", "repeated_prompts"),
    "scrub.show.reports.report": ("Report", "make_report"),
    "scrub.store.results.folder": ("Results",),
    "scrub.store.results.read": ("StudyResults", "known"),
    "scrub.show.charts.attention": ("attention_chart",),
    "scrub.show.charts.bars": ("bar_chart", "head_bars"),
    "scrub.show.charts.generation": ("generation_chart",),
    "scrub.show.charts.heatmap": ("head_map", "heat_map"),
    "scrub.show.charts.interventions": ("ablation_chart", "patching_chart"),
    "scrub.study.hypothesis": ("Hypothesis",),
    "scrub.study.token_feature": ("TokenFeature",),
    "scrub.study.metric": ("Metric",),
    "scrub.study.result": ("Result",),
    "scrub.study.run": ("prepare", "run"),
    "scrub.study.settings": ("Settings",),
    "scrub.study.study": ("Study", "load_study"),
    "scrub.store.sweeps.grid": ("Grid",),
    "scrub.store.sweeps.sweep": ("Swept", "sweep"),
}


register_looks()


def __getattr__(name: str) -> object:
    """Import what is asked for: importing torch takes seconds, which `scrub --help` needn't wait for."""
    home = next((module for module, names in _HOMES.items() if name in names), None)
    if home is None:
        raise AttributeError(f"module 'scrub' has no attribute {name!r}")
    found: object = getattr(import_module(home), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
