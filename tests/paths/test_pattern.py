"""The language of path patterns: a table of patterns, paths, and how they go together."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scrub.paths.pattern import Pattern
from scrub.text.errors import ScrubError

EXACTLY, COVERS, NO = "matches the whole path", "matches a beginning", "doesn't match"


def how(pattern: str, path: str) -> str:
    """How a pattern and a path go together, by running the automaton over the path."""
    parsed = Pattern(pattern)
    state, covered = parsed.start, False
    for step in path.split("/"):
        covered = covered or (state != parsed.start and parsed.accepts(state))
        state = parsed.advance(state, step)
    return EXACTLY if parsed.accepts(state) else COVERS if covered else NO


@pytest.mark.parametrize(
    ("pattern", "path", "expected"),
    [
        ("a1", "a1", EXACTLY),
        ("a1", "a10", NO),
        ("a1", "a1/k", COVERS),
        ("a1/k", "a1", NO),
        ("a1.ind/k/a0.prev/v/emb", "a1.ind/k/a0.prev/v/emb", EXACTLY),
        # a step follows directly
        ("a2/v/a0", "a2/v/a0", EXACTLY),
        ("a2/v/a0", "a2/v/a1/v/a0", NO),
        # one step, or a part of one
        ("a1/*", "a1/k", EXACTLY),
        ("a1/*", "a1", NO),
        ("a1/*/emb", "a1/k/emb", EXACTLY),
        ("a1/*/emb", "a1/k/a0/v/emb", NO),
        ("a0.*", "a0.prev", EXACTLY),
        ("a0.*", "a0", NO),
        ("a0*", "a0", EXACTLY),
        ("a*.ind", "a1.ind", EXACTLY),
        ("*.ind", "a1.ind", EXACTLY),
        ("a*", "emb", NO),
        ("*e*", "a0.prev", EXACTLY),
        # any number of steps: also none
        ("**", "emb", EXACTLY),
        ("**", "a1/k/a0/v/emb", EXACTLY),
        ("**/a0", "a0", EXACTLY),
        ("**/a0", "a1/k/a0", EXACTLY),
        ("**/a0", "a1/k/a0/v", COVERS),
        ("a1/**", "a1", EXACTLY),
        ("a1/**", "a1/k/a0/v/emb", EXACTLY),
        ("a1/**", "a0/v/emb", NO),
        ("a1/**/emb", "a1/emb", EXACTLY),
        ("a1/**/emb", "a1/k/emb", EXACTLY),
        ("a1/**/emb", "a1/k/a0/v/emb", EXACTLY),
        ("a1/**/emb", "a1/k/a0/v", NO),
        ("**/k/**/v", "k/v", EXACTLY),
        ("**/k/**/v", "a2/k/a1/k/a0/v", EXACTLY),
        ("**/k/**/v", "a2/v/a1/k/a0/q", NO),
        ("**/**", "a1", EXACTLY),
        ("a1/**/**/emb", "a1/emb", EXACTLY),
        # alternatives
        ("a1/{q,k}", "a1/q", EXACTLY),
        ("a1/{q,k}", "a1/k", EXACTLY),
        ("a1/{q,k}", "a1/v", NO),
        ("a1/{q, k}", "a1/k", EXACTLY),
        ("a0.{prev,self}", "a0.self", EXACTLY),
        ("a{0,1}.{prev,ind}", "a1.prev", EXACTLY),
        ("{a0.*,emb}", "a0.prev", EXACTLY),
        ("{a0.*,emb}", "emb", EXACTLY),
        ("{q}", "q", EXACTLY),
        ("{q,k}", "{q,k}", NO),
        # parts in brackets are plain text, spaces and all
        ("a0.prev[last three]/v", "a0.prev[last three]/v", EXACTLY),
        ("a0.prev[last three]", "a0.prev[rest]", NO),
        ("a0.prev[*]", "a0.prev[last three]", EXACTLY),
        ("a0.prev[{previous,rest}]", "a0.prev[rest]", EXACTLY),
        ("a0.prev[identity]", "a0.previ", NO),
        ("a0.prev", "a0.prev[rest]", NO),
        ("a0.prev*", "a0.prev[rest]", EXACTLY),
        # and a dot is a dot
        ("a0.prev", "a0xprev", NO),
        ("a+", "aa", NO),
        ("A1", "a1", NO),
    ],
)
def test_a_pattern_matches(pattern: str, path: str, expected: str) -> None:
    assert how(pattern, path) == expected


@pytest.mark.parametrize(
    ("pattern", "says"),
    [
        ("", "empty step"),
        ("a1/", "empty step"),
        ("/a1", "empty step"),
        ("a1//k", "empty step"),
        ("a1/a**", "'**' must be a step of its own"),
        ("***", "'**' must be a step of its own"),
        ("{**,q}", "'**' must be a step of its own"),
        ("a1/{q,k", "don't close"),
        ("{q,k", "don't close"),
        ("a1/q,k}", "don't close"),
        ("{a0,{q,k}}", "don't close"),
        ("a1/{q/a0,k}", "don't close"),
    ],
)
def test_a_bad_pattern_is_one_clear_line(pattern: str, says: str) -> None:
    with pytest.raises(ScrubError) as caught:
        Pattern(pattern)
    message = str(caught.value)
    assert says in message
    assert repr(pattern) in message
    assert "\n" not in message


def test_equal_patterns_are_equal() -> None:
    assert Pattern("a1/**") == Pattern("a1/**") != Pattern("a1/*")
    assert len({Pattern("a1"), Pattern("a1")}) == 1
    assert str(Pattern("a1/{q,k}/**")) == "a1/{q,k}/**"


steps = st.sampled_from(["a0", "a1.ind", "a0.prev[last three]", "q", "k", "v", "emb"])


@given(st.lists(steps, min_size=1, max_size=5), st.data())
def test_a_path_matches_itself_with_any_of_it_left_open(path: list[str], data: st.DataObject) -> None:
    begin = data.draw(st.integers(0, len(path)))
    end = data.draw(st.integers(begin, len(path)))
    assert how("/".join([*path[:begin], "**", *path[end:]]), "/".join(path)) == EXACTLY
    starred = [data.draw(st.sampled_from([step, "*", step[:1] + "*"])) for step in path]
    assert how("/".join(starred), "/".join(path)) == EXACTLY
    assert how("/".join([*path, "*"]), "/".join(path)) == NO
