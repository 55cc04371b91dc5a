"""The axis of shares of paths: what is drawn is on it, and hardly more than all paths is."""

from __future__ import annotations

import pytest

from scrub.show.charts.recovery import ALL_PATHS, LEAST_SHARES, MARGIN, _shares


@pytest.mark.parametrize("percent", [[100.0], [99.99, 100.0], [97.0, 41.0, 100.0], [0.0, 0.0], [63.0, 63.5]])
def test_every_share_is_on_the_axis_and_next_to_nothing_beyond_all(percent: list[float]) -> None:
    left, right = _shares(percent)
    assert left <= min(percent) < right
    assert max(percent) < right
    assert right - left >= LEAST_SHARES
    assert right <= ALL_PATHS + MARGIN * (right - left) + 1e-9


def test_shares_that_end_in_between_stand_in_the_middle() -> None:
    assert _shares([40.0, 60.0]) == pytest.approx((39.0, 61.0))
