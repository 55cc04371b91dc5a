"""The tree as text."""

from __future__ import annotations

import io
from textwrap import dedent

import drawn
from rich.console import Console

from scrub.paths.listing import legend, listed, plain
from scrub.paths.tree import PathTree, path_tree
from scrub.show.picture import Picture
from scrub.show.sources import looks
from scrub.show.text import coloured
from scrub.text.wording import printable

GOLDEN = dedent(
    """\
    out
    ├── emb  x
    ├── a0.prev  x
    ├── a0.self  x
    ├── a0.rest  x
    ├── a1.ind
    │   ├── q
    │   │   ├── emb  x
    │   │   ├── a0.prev  y
    │   │   ├── a0.self  y
    │   │   └── a0.rest  y
    │   ├── k
    │   │   ├── emb  y
    │   │   ├── a0.prev[previous]
    │   │   │   ├── q  y
    │   │   │   ├── k  y
    │   │   │   └── v  x
    │   │   ├── a0.prev[rest]  y
    │   │   ├── a0.self  y
    │   │   └── a0.rest  y
    │   └── v
    │       ├── emb  x
    │       ├── a0.prev  y
    │       ├── a0.self  y
    │       └── a0.rest  y
    └── a1.rest  x"""
)


def test_the_naive_hypothesis_reads_as_it_always_did() -> None:
    assert plain(drawn.tree()) == GOLDEN


def test_colour_changes_no_character_and_each_step_has_its_source_colour() -> None:
    text = coloured(drawn.tree())
    assert text.plain == GOLDEN
    colours = {source: look.terminal for source, look in looks("xy").items()}
    for line in text.split("\n"):
        source = line.plain[-1] if line.plain[-3:-1] == "  " else None
        styles = {str(span.style) for span in line.spans} - {"dim", "default"}
        assert styles == ({colours[source]} if source else set()), line.plain


def test_a_terminal_without_colour_gets_plain_text_and_no_line_is_broken() -> None:
    file = io.StringIO()
    Picture(drawn.tree()).print(Console(file=file, width=12))
    assert file.getvalue() == f"{GOLDEN}\nx = reference\ny = other\n"


def test_a_narrow_console_loses_nothing() -> None:
    file = io.StringIO()
    Console(file=file, width=30).print(coloured(drawn.tree()))
    assert file.getvalue().split() == GOLDEN.split()


def test_too_long_a_tree_says_how_much_is_left_out() -> None:
    tree = path_tree(drawn.deep("**/a5.3/k/a4.2/v/** -> y"))
    lines = plain(tree, 120).splitlines()
    assert len(lines) < 150
    assert any("a6, a7, a8  … as below out" in line for line in lines), lines
    assert any(line.lstrip("│ ").startswith(("├── … ", "└── … ")) for line in plain(tree, 20).splitlines())


def test_labels_neither_break_lines_nor_reach_the_terminal_as_markup_or_escapes() -> None:
    tree = path_tree(drawn.hostile())
    text = plain(tree)
    assert all(character == "\n" or printable(character) == character for character in text)
    assert coloured(tree).plain == text
    assert "[bold red]markup[/]" in text
    file = io.StringIO()
    Console(file=file, width=500).print(coloured(tree))
    assert file.getvalue() == text + "\n"


def test_the_legend_says_what_each_source_is() -> None:
    assert legend(drawn.tree()) == ["x = reference", "y = other"]
    assert legend(path_tree(drawn.hostile())) == [
        "x = reference",
        "y = other",
        "like f = a draw that agrees with x on f",
        "like g = a draw that agrees with x on g",
        "rows like f = each row agrees with x on f",
    ]


def test_what_is_left_out_is_said_once_and_the_text_ends_its_last_line() -> None:
    tree = PathTree("out", ("x",), (PathTree("a0", ("x",), note="as at a1"), PathTree("m0", ("x",))), note="3 more")
    assert listed(tree, "title") == dedent(
        """\
        title
        out  x
        ├── a0  x  … as at a1
        ├── m0  x
        └── … 3 more
        x = reference
        """
    )
