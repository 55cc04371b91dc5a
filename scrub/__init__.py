"""Causal scrubbing of transformers on explicit computational graphs."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from scrub.comparisons.comparison import Comparison, compare
    from scrub.comparisons.leaderboard import Leaderboard, leaderboard
    from scrub.comparisons.moved import Moved, moved
    from scrub.errors import GateError, ScrubError
    from scrub.graph.views import listing, to_networkx
    from scrub.heads.study import HeadStudy, study_heads
    from scrub.interventions.ablation import Ablation, ablate
    from scrub.interventions.patching import Patching, patch
    from scrub.measure.scores import score_heads
    from scrub.model import Model, load_model
    from scrub.prompts.generate import given_prompt, prompt_pairs, repeated_prompts
    from scrub.reports.report import Report, make_report
    from scrub.results.folder import Results
    from scrub.results.read import known
    from scrub.results.stored import StudyResults
    from scrub.show.charts.interventions import ablation_chart, patching_chart
    from scrub.study.hypothesis import Hypothesis, TokenFeature
    from scrub.study.result import Result
    from scrub.study.run import Settings, prepare, run
    from scrub.study.study import Study, load_study
    from scrub.sweeps.grid import Grid
    from scrub.sweeps.sweep import Swept, sweep

__all__ = [
    "Ablation",
    "Comparison",
    "GateError",
    "Grid",
    "HeadStudy",
    "Hypothesis",
    "Leaderboard",
    "Model",
    "Moved",
    "Patching",
    "Report",
    "Result",
    "Results",
    "ScrubError",
    "Settings",
    "Study",
    "StudyResults",
    "Swept",
    "TokenFeature",
    "ablate",
    "ablation_chart",
    "compare",
    "given_prompt",
    "known",
    "leaderboard",
    "listing",
    "load_model",
    "load_study",
    "make_report",
    "moved",
    "patch",
    "patching_chart",
    "prepare",
    "prompt_pairs",
    "repeated_prompts",
    "run",
    "score_heads",
    "study_heads",
    "sweep",
    "to_networkx",
]

_HOMES = {
    "scrub.comparisons.comparison": ("Comparison", "compare"),
    "scrub.comparisons.leaderboard": ("Leaderboard", "leaderboard"),
    "scrub.comparisons.moved": ("Moved", "moved"),
    "scrub.errors": ("GateError", "ScrubError"),
    "scrub.graph.views": ("listing", "to_networkx"),
    "scrub.heads.study": ("HeadStudy", "study_heads"),
    "scrub.interventions.ablation": ("Ablation", "ablate"),
    "scrub.interventions.patching": ("Patching", "patch"),
    "scrub.measure.scores": ("score_heads",),
    "scrub.model": ("Model", "load_model"),
    "scrub.prompts.generate": ("given_prompt", "prompt_pairs", "repeated_prompts"),
    "scrub.reports.report": ("Report", "make_report"),
    "scrub.results.folder": ("Results",),
    "scrub.results.read": ("known",),
    "scrub.results.stored": ("StudyResults",),
    "scrub.show.charts.interventions": ("ablation_chart", "patching_chart"),
    "scrub.study.hypothesis": ("Hypothesis", "TokenFeature"),
    "scrub.study.result": ("Result",),
    "scrub.study.run": ("Settings", "prepare", "run"),
    "scrub.study.study": ("Study", "load_study"),
    "scrub.sweeps.grid": ("Grid",),
    "scrub.sweeps.sweep": ("Swept", "sweep"),
}


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
