"""What is said of many hypotheses is one line, and nothing of it is lost."""

from __future__ import annotations

import pytest

from scrub.cli.outputs import warn
from scrub.text.wording import together

IDLE = "the rule 'a -> x' changes nothing"


def test_one_line_for_what_is_said_of_many() -> None:
    of = [f"h_{number}/all: {IDLE}" for number in range(5)]
    other = "h_1/all: the rule 'b: c -> x' changes nothing"
    line = f"h_0/all, h_1/all, h_2/all and 2 more: {IDLE}"
    assert together([*of[:2], other, *of[2:]]) == [line, other]
    assert together(of[:3]) == [f"h_0/all, h_1/all, h_2/all: {IDLE}"]


@pytest.mark.parametrize("lines", [[f"h/k: {IDLE}", f"h/all: {IDLE}"], ["no prompt: none"] * 3, ["plain", ": odd"], []])
def test_what_is_said_of_few_or_of_nothing_with_a_name_stays_as_it_is(lines: list[str]) -> None:
    assert together(lines) == lines


def test_the_command_line_says_it_so(capsys: pytest.CaptureFixture[str]) -> None:
    warn(f"h_{number}/all: {IDLE}" for number in range(4))
    assert capsys.readouterr().err == f"warning: h_0/all, h_1/all, h_2/all and 1 more: {IDLE}\n"
