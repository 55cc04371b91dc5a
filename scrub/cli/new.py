"""`scrub new`: a commented hypothesis module to start from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from scrub.errors import ScrubError
from scrub.files import make_folder, write_atomically

TEMPLATE = '''"""What you believe, in prose: one or two sentences that could turn out to be false.

Here: the values of the induction heads are made of token embeddings alone; nothing that layer 0 adds to
the residual stream matters to them.
"""

from scrub import Hypothesis

hypothesis = Hypothesis(
    """
    # A path is a walk from the output back to an input: a1.ind/k/a0.prev/v/emb is the value path of the
    # previous-token head, into the keys of the induction heads. Each rule says what feeds the paths that
    # match: y is another sequence (what you claim doesn't matter), x the real one. The last rule that
    # matches a path wins; a path that no rule matches is fed by x.
    #   *  one step or a part of one      **  any number of steps      {q,k}  alternatives
    #
    # A split writes a component as a sum, along one path, without changing a number:
    #   splits  a1.ind/k/a0.prev  by mask "previous"    -> a0.prev[previous] and a0.prev[rest]
    #           a1.ind/q/a0.self  by identity           -> a0.self[identity] and a0.self[error]
    #           a1.ind/q/a0.rest  by heads 3 4          -> a0.3, a0.4 and a0.rest
    # Masks: "current", "previous", "last three", "first", "last N", "lag N".
    #
    # $name stands for a value of a parameter: declare parameters={"lag": (1, 2, 3)} below, write  by mask "lag $lag".
    # The first value is the default; 'scrub run FILE --set lag=2,3' runs others.
    #
    # Parts are tested one by one and all together; a line that begins with a name opens a part.
    v   a1.ind/v/a0.*/**  -> y
    """,
    study="induction",  # whose behaviour (model, data, positions, baseline) it is tested on
)
'''


def new(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A name, or the path of a .py file.")],
) -> None:
    """Write a commented hypothesis module to start from: hypotheses/NAME.py, or the path that is given."""
    path = Path(name) if name.endswith(".py") else Path("hypotheses") / f"{name}.py"
    if ".." in path.parts and not name.endswith(".py"):
        raise ScrubError(f"{name!r} leads out of hypotheses/: give a name, or the path of a .py file")
    if path.exists():
        raise ScrubError(f"{path} is there already: give another name, or remove it first")
    if not path.stem.isidentifier():
        raise ScrubError(f"{path.stem!r} can't name a hypothesis: use letters, digits and _, and begin with a letter")
    make_folder(path.parent)
    write_atomically(path, TEMPLATE)
    typer.echo(f"wrote {path}: edit it, look at it with 'scrub show {path}', run it with 'scrub run {path}'")
