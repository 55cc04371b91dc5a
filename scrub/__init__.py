"""Causal scrubbing of transformers on explicit computational graphs."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from scrub.errors import GateError, ScrubError
    from scrub.graph.views import listing, to_networkx
    from scrub.model import Model, load_model
    from scrub.study.hypothesis import Hypothesis, TokenFeature
    from scrub.study.result import Result
    from scrub.study.run import Settings, prepare, run
    from scrub.study.study import Study, load_study

__all__ = [
    "GateError",
    "Hypothesis",
    "Model",
    "Result",
    "ScrubError",
    "Settings",
    "Study",
    "TokenFeature",
    "listing",
    "load_model",
    "load_study",
    "prepare",
    "run",
    "to_networkx",
]

_HOMES = {
    "scrub.errors": ("GateError", "ScrubError"),
    "scrub.graph.views": ("listing", "to_networkx"),
    "scrub.model": ("Model", "load_model"),
    "scrub.study.hypothesis": ("Hypothesis", "TokenFeature"),
    "scrub.study.result": ("Result",),
    "scrub.study.run": ("Settings", "prepare", "run"),
    "scrub.study.study": ("Study", "load_study"),
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
