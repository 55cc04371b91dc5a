"""What holds of every shipped study."""

from __future__ import annotations

import scrub


def assert_sound(result: scrub.Result) -> None:
    """No rule is idle, and the induction heads matter where they are scored."""
    assert [text for text in result.gates.warnings if "the rule" in text] == []
    assert result.gap.low > 0.3
    losses = result.losses
    assert losses["unscrubbed"].estimate < losses["baseline"].estimate < losses["all_scrubbed"].estimate
