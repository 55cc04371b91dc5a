"""Causal scrubbing of transformers on explicit computational graphs."""

from scrub.errors import GateError, ScrubError
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
    "load_model",
    "load_study",
    "prepare",
    "run",
]
