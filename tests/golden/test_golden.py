"""Plans, numbers and a results folder as they were recorded. `record.py` beside this says how, and when to anew."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from recorded import HERE, NUMBERS, apart, here, plain, plans, rows_of, sweep

import scrub

TOLERANCE = 1e-12  # relative or absolute: another machine's libraries round in another way


def stored(name: str) -> dict[str, dict[str, object]]:
    found: dict[str, dict[str, object]] = json.loads((HERE / name).read_text())
    return found


def test_plans_are_those_recorded() -> None:
    """Where only the text differs and the steps don't, what changed is a name."""
    assert list(apart(plans(), stored("plans.json"))) == []


@pytest.mark.parametrize("name", NUMBERS)
def test_numbers_are_those_recorded(name: str) -> None:
    assert list(apart(plain(here(NUMBERS[name])()), stored("numbers.json")[name], TOLERANCE)) == []


def test_all_that_is_recorded_is_compared() -> None:
    assert stored("numbers.json").keys() == NUMBERS.keys()


def test_a_results_folder_of_before_goes_on_with_nothing_computed(tmp_path: Path) -> None:
    folder = shutil.copytree(HERE / "results", tmp_path / "results")
    swept = sweep(folder)
    assert (swept.computed, swept.failures) == (0, [])
    (known,) = scrub.known(scrub.Results(folder))
    assert swept.only().result.table == known.result.table


def test_a_sweep_gives_the_rows_of_before(tmp_path: Path) -> None:
    swept = sweep(tmp_path / "results")
    assert swept.computed == 1
    assert list(apart(rows_of(tmp_path / "results"), rows_of(HERE / "results"), TOLERANCE)) == []


def test_a_folder_of_an_earlier_version_is_read(tmp_path: Path) -> None:
    """Of before files had digests, results said how much is scrubbed, and sequences had documents."""
    folder = shutil.copytree(HERE / "before", tmp_path / "before")
    (before,) = scrub.known(scrub.Results(folder))
    (now,) = scrub.known(scrub.Results(shutil.copytree(HERE / "results", tmp_path / "results")))
    assert before.result.rows == now.result.rows
    for name, sums in now.result.loss.items():
        assert before.result.loss[name] == pytest.approx(sums, abs=TOLERANCE)
    assert not before.result.claims
    assert now.result.claims
    shown = repr(scrub.leaderboard([before], before.result.study))
    assert "scrubs, %" not in shown
