"""Graphs to draw: the design's naive hypothesis on a small model, and labels that nobody should trust."""

from __future__ import annotations

from small import rules, small, split_roles

from scrub.graph.node import Node, node
from scrub.paths.sources import Source
from scrub.paths.splits import Split
from scrub.paths.tree import PathTree, path_tree

NAIVE = {
    "q": ["a1.ind/q/a0.*/** -> y"],
    "k": ["a1.ind/k/** -> y", "a1.ind/k/a0.prev[previous]/v/emb -> x"],
    "v": ["a1.ind/v/a0.*/** -> y"],
}
HOSTILE = [
    "<script>alert(1)</script>",
    "]]></style></svg><img src=x onerror=alert(1)>",
    "\"' onload='alert(1)",
    "&lt;b&gt; & more",
    "[bold red]markup[/] [link=https://example.invalid]x[/link]",
    "\x1b[31mred\x1b[0m\x00\x07",
    "two\nlines\r\u2028and\u202emore\u200b",
    "\ud800 lone \uffff",
    "漢字" * 20,
    "a" * 300,
]


def split(positions: str = "shortformer", *splits: str) -> Node:
    """A small model, split into its roles and then along paths."""
    graph = split_roles(small(positions).graph)
    for each in splits:
        graph = Split.parse(each).apply(graph, {})
    return graph


def naive(part: str = "all") -> Node:
    """The naive hypothesis of the induction study."""
    chosen = [text for name, texts in NAIVE.items() if part in ("all", name) for text in texts]
    return rules(split("shortformer", 'a1.ind/k/a0.prev by mask "previous"'), *chosen)


def deep(*texts: str, n_layers: int = 12) -> Node:
    """A deep model with rules, one head of layers 4 and 5 split off."""
    return rules(small(n_layers=n_layers).split("**/a5 by heads 3", "**/a4 by heads 2"), *texts)


def hostile() -> Node:
    """A graph whose labels hold anything, fed by x, y and three draws."""
    table = node("param", name="embed.weight", shape=(13, 11))
    sources = [Source.parse(text) for text in ("x", "y", "like f", "rows like f", "like g")]
    inputs = [node("embed", node("tokens", source=source), table, label="emb") for source in sources]
    norm = [node("param", name=f"ln.{name}", shape=(11,)) for name in ("weight", "bias")]
    parts = [
        node("layer_norm", inputs[at % 5] if at % 2 else node("add", *inputs), *norm, eps=1e-5, label=label)
        for at, label in enumerate(HOSTILE)
    ]
    return node("unembed", node("add", *parts), table, label=HOSTILE[0])


def sizes(tree: PathTree) -> int:
    """How many lines a tree has, counted naively."""
    return 1 + sum(map(sizes, tree.children))


def find(tree: PathTree, *steps: str) -> PathTree:
    """The part of a tree at the end of a path."""
    for step in steps:
        (tree,) = [child for child in tree.children if step in child.steps]
    return tree


def tree(part: str = "all") -> PathTree:
    """The tree of the naive hypothesis."""
    return path_tree(naive(part))
