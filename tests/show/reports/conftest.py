"""Every test runs in the folder of a small project; results are made once."""

from __future__ import annotations

import os
from pathlib import Path

import browsing
import pytest
from reported import HOSTILE, QUIET, measured, tricky

from scrub import prepare
from scrub.show.reports.report import Report, make_report
from scrub.store.results.read import StudyResults
from scrub.study.run import Trial


def pytest_report_header() -> str:
    """Says whether pages are opened in a browser too, or by the strict parser alone."""
    return f"reports are opened by: html5lib, {browsing.BROWSER or 'and no browser, since none is installed'}"


@pytest.fixture(autouse=True)
def inside(in_project: None) -> None:
    """Every test of this folder."""


@pytest.fixture(scope="session")
def study(project: Path) -> tuple[StudyResults, Trial]:
    """Three hypotheses of the small project's study, run."""
    before = Path.cwd()
    os.chdir(project)
    try:
        trial = prepare([f"induction/{name}" for name in ("naive", "refined_1", "refined_5")], settings=QUIET)
        return measured(trial), trial
    finally:
        os.chdir(before)


@pytest.fixture(scope="session")
def report(study: tuple[StudyResults, Trial]) -> Report:
    """Its report."""
    return make_report(*study)


@pytest.fixture(scope="session")
def hostile(project: Path) -> Report:
    """A report of texts that nobody should trust."""
    before = Path.cwd()
    os.chdir(project)
    try:
        return make_report(*tricky(HOSTILE))
    finally:
        os.chdir(before)
