"""The package is a tower: imports only go down, and nothing imports in a circle."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import networkx as nx
import pytest

import scrub

PACKAGE = Path(scrub.__file__).parent
FLOORS = ("text", "graph", "paths", "plan", "models", "data", "study", "measure", "store", "show", "cli")
TOP = {"__init__", "__main__"}  # the public names, and `python -m scrub`: above everything
LEAF = "training"  # that only the command line imports


def modules() -> dict[str, Path]:
    """Every file of the package by the name of its module, without the package's own."""
    files = (path for path in PACKAGE.rglob("*.py") if "shipped" not in path.relative_to(PACKAGE).parts)
    named = {".".join(path.relative_to(PACKAGE).with_suffix("").parts): path for path in files}
    return {name.removesuffix(".__init__"): path for name, path in named.items()}


def imports(path: Path) -> Iterator[tuple[str, str]]:
    """The (module, name) of every import of a file, those inside functions too, but not those for type checking."""
    stack: list[ast.AST] = [ast.parse(path.read_text())]
    while stack:
        node = stack.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            stack += node.orelse
            continue
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "scrub":
            yield from (((node.module or "").partition(".")[2], alias.name) for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from ((a.name.partition(".")[2], "") for a in node.names if a.name.partition(".")[0] == "scrub")
        stack += ast.iter_child_nodes(node)


@cache
def arrows() -> nx.DiGraph:
    """Which module imports which. What is imported of a package is the module of that name, if there is one."""
    known, graph = modules(), nx.DiGraph()
    for name, path in known.items():
        graph.add_node(name)
        for module, part in imports(path):
            inner = f"{module}.{part}".strip(".")
            graph.add_edge(name, inner if inner in known else module or "__init__")
    return graph


def knots(graph: nx.DiGraph) -> list[list[str]]:
    """What can reach itself."""
    return [sorted(knot) for knot in nx.strongly_connected_components(graph) if len(knot) > 1]


def rooms(graph: nx.DiGraph, folder: str) -> nx.DiGraph:
    """The arrows between the files and folders that lie directly in a folder."""
    inside = f"{folder}." if folder else ""

    def room(module: str) -> str | None:
        return module.removeprefix(inside).partition(".")[0] if module.startswith(inside) else None

    ends = ((room(one), room(other)) for one, other in graph.edges)
    return nx.DiGraph([(one, other) for one, other in ends if one and other and one != other])


def test_no_file_imports_itself_around_others():
    assert not knots(arrows())


@pytest.mark.parametrize("folder", sorted({"", *(name.rpartition(".")[0] for name in modules())}))
def test_no_folder_imports_another_that_imports_it(folder: str):
    assert not knots(rooms(arrows(), folder))


def test_imports_only_go_down():
    up = []
    for one, other in arrows().edges:
        here, there = one.partition(".")[0], other.partition(".")[0]
        if here in TOP or here == there or (here, there) == ("cli", LEAF):
            continue
        if there in TOP or there == LEAF or (here != LEAF and FLOORS.index(there) > FLOORS.index(here)):
            up.append((one, other))
    assert not up


def test_every_room_is_a_floor():
    assert {name.partition(".")[0] for name in modules()} == {*FLOORS, *TOP, LEAF}


def test_arrows_are_found():
    """What the other tests see: imports of modules, of names in them, and inside functions."""
    graph = arrows()
    assert graph.has_edge("paths.rules", "graph.node")
    assert graph.has_edge("cli.run", "study.run")
    assert graph.number_of_edges() > len(modules())
