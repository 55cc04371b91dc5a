"""Search for a hypothesis of a given size, and say how good it is on examples that the search has not seen."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from jaxtyping import Float

from scrub.data.folds import FOLDS
from scrub.data.for_model import Data
from scrub.data.prompts.prompts import documents_called
from scrub.measure.search.cells import Cell, Cells
from scrub.measure.search.exact import CHANGE, METRIC, Exact, Kept, Record
from scrub.measure.search.found import REPORT, SEARCH, STOP, Beside, Found, Point
from scrub.measure.search.steps import CHECKED, Search, Step, check_start
from scrub.measure.search.written import hypothesis_of
from scrub.models.model import Model, Spec
from scrub.study.draws import generator
from scrub.study.evaluate import Evaluation, Evaluator
from scrub.study.experiments import ALL_SCRUBBED, BASELINE, UNSCRUBBED, Experiment, Experiments, Name
from scrub.study.hypothesis import ALL, Hypothesis
from scrub.study.metric import GivenMetric, as_metrics, studied
from scrub.study.run import Trial, prepare_study
from scrub.study.settings import DRAWN, Settings
from scrub.study.statistics import Bootstrap, recovered
from scrub.study.study import Study, Wanted, load_study
from scrub.text.errors import ScrubError
from scrub.text.fields import COUNT, check_arguments
from scrub.text.numbers import Interval
from scrub.text.progress import bar_of

RESAMPLES = 5  # of documents, on each of which the search is done again
RANDOM = 20  # lists of as many cells
FOUND = "found"  # what a hypothesis is called that nobody named
FROM_MODEL = "model"  # a start: all cells
RANDOM_SIZES = 4  # at which random lists are drawn, besides the last
"""
The rest is below.
"""
