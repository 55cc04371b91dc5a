"""The looks of sources can be told apart, by everyone, on either ground."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from scrub.paths.sources import Source, ordered
from scrub.show.sources import NEUTRAL, OTHER_LOOK, REFERENCE_LOOK, Look, looks
from scrub.text.wording import printable

# Machado, Oliveira and Fernandes 2009, severity 1, on linear RGB
BLINDNESS = {
    "none": [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
    "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritan": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}


def linear(colour: str) -> np.ndarray:
    rgb = np.array([int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)])
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


def lab(rgb: np.ndarray) -> np.ndarray:
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    xyz = to_xyz @ rgb.clip(0, 1) / np.array([0.95047, 1.0, 1.08883])
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def apart(one: str, other: str, blindness: str) -> float:
    seen = [lab(np.array(BLINDNESS[blindness]) @ linear(colour)) for colour in (one, other)]
    return float(np.linalg.norm(seen[0] - seen[1]))


def contrast(one: str, other: str) -> float:
    low, high = sorted(float(np.array([0.2126, 0.7152, 0.0722]) @ linear(colour)) for colour in (one, other))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("blindness", BLINDNESS)
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_reference_other_and_mixed_look_different_to_everyone(blindness: str, theme: str) -> None:
    inks = [getattr(look, theme) for look in (REFERENCE_LOOK, OTHER_LOOK, NEUTRAL)]
    assert apart(inks[0].line, inks[1].line, blindness) > 50
    for one, other in combinations(inks, 2):
        assert apart(one.line, other.line, blindness) > 20
        assert apart(one.fill, other.fill, blindness) > 10


@pytest.mark.parametrize("look", [NEUTRAL, *looks(["x", "y", "like f", "like g", "like h"]).values()])
def test_lines_stand_out_and_text_can_be_read(look: Look) -> None:
    for ink, ground in ((look.light, "#ffffff"), (look.dark, "#10151c")):
        assert contrast(ink.line, ground) > 3
        assert contrast(ink.text, ink.fill) > 7


def test_dashes_differ_too() -> None:
    found = looks(["x", "y", "like f", "like g", "like h"])
    assert len({look.dash for look in found.values()}) == 5


def test_the_order_of_sources() -> None:
    parsed = map(Source.parse, ["rows like b", "y", "like a", "x", "zero", "y"])
    assert [str(each) for each in ordered(parsed)] == ["x", "y", "like a", "rows like b", "zero"]
    assert Source.parse("rows like typicality").meaning == "each row agrees with x on typicality"
    assert [Source.parse(text).meaning for text in ("x", "y", "mean")] == ["reference", "other", "mean"]


def test_printable_leaves_what_can_be_seen() -> None:
    assert printable("a0.prev[last three] é 漢 <&>") == "a0.prev[last three] é 漢 <&>"
    assert printable("a\x1b\n\u202e\ud800\uffffb") == "a" + "\ufffd" * 5 + "b"
