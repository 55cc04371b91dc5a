"""The comparison of messages that the tests of mistakes rely on can fail."""

from __future__ import annotations

import pytest
from wording import tells

SAID = "m/config.json gives the role 'prev' to head [2, 0], but the model has no layer 2: its layers are 0 to 1"


@pytest.mark.parametrize(
    "expected",
    ["m/config.json: head [2, 0] is 'prev', of layers 0 to 1", "the role 'prev'", "layers are", "config.json", SAID],
)
def test_other_words_for_the_same(expected: str) -> None:
    assert tells(SAID.replace("m/", ""), expected.replace("m/", ""))


@pytest.mark.parametrize(
    "expected",
    ["m/tokenizer.json", "the role 'ind'", "head [3, 0]", "0 to 7", "no heads", "--roles", "is no JSON", "a1.ind"],
)
def test_another_name_is_another_message(expected: str) -> None:
    assert not tells(SAID, expected)


def test_a_name_without_its_reason_is_another_message() -> None:
    assert not tells("m/model.safetensors is fine", "m/model.safetensors: damaged, or of another kind")
    assert not tells("No such option: --roles", "--roles")
