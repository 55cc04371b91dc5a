"""Hypothesis modules to start from: a general one, and one that names the heads with a role of a model."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING

from scrub.graph.node import walk
from scrub.models.find import find, known
from scrub.paths.roles import Roles
from scrub.study.study import load_study
from scrub.text.errors import ScrubError
from scrub.text.files import one_line

if TYPE_CHECKING:
    from scrub.models.model import Model

READER, COPIER = "ind", "prev"  # the role whose inputs a skeleton is about, and the one that its keys read
FIRST = "naive"  # the first hypothesis of a study of one's own
WIDTH_CHARACTERS = 110
CONTEXT_POSITIONS = 300  # a sequence, of a study of one's own
_NAMES = {"ind": "induction heads", "prev": "previous-token heads", "self": "current-token heads"}
_GUIDE = """\
    # A path is a walk from the output back to an input: a1.ind/k/a0.prev/v/emb is the value path of the
    # previous-token head, into the keys of the induction heads. Each rule says what feeds the paths that
    # match: y is another sequence (what you claim doesn't matter), x the real one. The last rule that
    # matches a path wins; a path that no rule matches is fed by x.
    #   *  one step or a part of one      **  any number of steps      {q,k}  alternatives
    #   a0  a layer of heads   a0.prev  its heads with a role   a0.3  one head   a0.rest  those without a role
    # Roles are those of the model's config.json ('scrub show' lists them), or the study's own: Study(roles=...).
    #
    # A split writes a component as a sum, along one path, without changing a number:
    #   splits  a1.ind/k/a0.prev  by mask "previous"    -> a0.prev[previous] and a0.prev[rest]
    #           a1.ind/q/a0.self  by identity           -> a0.self[identity] and a0.self[error]
    #           a1.ind/q/emb      by positions 4..7     -> emb[4..7] and emb[rest]
    #           a1.ind/q/emb      by positions each     -> emb[0], emb[1] and so on
    #           a1.ind/v/emb      by direction v        -> emb[v] and emb[rest]: directions={"v": a vector} below
    #           a1.ind/k/a0.prev  by estimate phi       -> a0.prev[phi] and a0.prev[rest]: estimates={"phi": function}
    # Masks: "current", "previous", "last three", "first", "last N", "lag N". Several that share no key are a part each.
    #
    # $name stands for a value of a parameter: declare parameters={"lag": (1, 2, 3)} below, write  by mask "lag $lag".
    # The first value is the default; 'scrub run FILE --set lag=2,3' runs others.
    #
    # 'like F' is a sequence that agrees with x on a feature: features={"F": function(tokens, tokenizer)} below, which
    # gives a class (a whole number) for each sequence of token ids, or with 'rows like F' for each position of each.
    #
    # Parts are tested one by one and all together; a line that begins with a name opens a part.
"""


def general() -> str:
    """Write a commented hypothesis module about the model of the study `induction`."""
    claim = (
        "What you believe, in prose: one or two sentences that could turn out to be false.\n\n"
        "Here: the values of the induction heads are made of token embeddings alone; nothing that layer 0 adds to\n"
        "the residual stream matters to them.\n"
    )
    return _module(claim, ["v   a1.ind/v/a0.*/**  -> y"], "induction")


def skeleton(roles: Roles, model_name: str, components: Collection[str], study: str | None = None) -> str:
    """Write a commented hypothesis module about what the heads with a role read from one another.

    Its rules are valid for a model with these roles in its config and these `components`, such as `emb` and `m0`. They
    are about the induction heads, or else the heads of the role that lies highest: their keys come from
    previous-token heads below them, their queries and values from the embedding and the heads with other roles. It is
    tested on the behaviour of `study`, or of the study.py in its folder.
    Raises ScrubError if no head has a role.
    """
    reader, below = _layout(roles, model_name)
    known_heads = "; ".join(f"{role}: {_heads(heads)}" for role, heads in roles.items() if heads)
    opening = f"What the {_called(reader)} of {model_name} read, as a first guess to refine."
    heads = f"Heads found, as LAYER.HEAD: {known_heads}."
    if max(layer for layer, _ in roles[reader]) == 0:
        belief = "They lie in layer 0, below everything. Where they look doesn't depend on the token at the query."
        return _module(_prose(opening, heads, belief), [f"q   **/a*.{reader}/q/**  -> y"], study)
    others, mlp = [role for role in below if role != COPIER], "m0" in components
    near = ["emb", *(["m0"] if mlp else []), *(f"a*.{role}" for role in others)]
    texts = ["the token embedding", *(["MLP 0"] if mlp else []), *(f"the {_called(role)}" for role in others)]
    copied = f"Keys come from the {_called(COPIER)}, at the previous position; queries and values"
    slots = copied if COPIER in below else "Queries, keys and values"
    belief = f"{slots} come from {_listed(texts)}. Nothing else that they read matters."
    return _module(_prose(opening, heads, belief), _rules(reader, near, COPIER in below), study)


def study_module(name: str, roles: Roles, model_name: str, data: str) -> str:
    """Write the study.py of a study of one's own, whose first hypothesis is a skeleton."""
    reader, _ = _layout(roles, model_name)
    claim = _prose(
        f"What do the {_called(reader)} of {model_name} read?",
        "100 % is the model; 0 % is the model with everything that these heads read on another sequence, wherever "
        "they lie and whatever reads them. The positions are those whose token stands earlier in its sequence.",
    )
    return f'''"""{claim}"""

from scrub import Study

study = Study(
    model={_quoted(model_name)},
    data={_quoted(data)},
    positions="repeats",  # or "all", or "whitelist"
    context={CONTEXT_POSITIONS},
    baseline="**/a*.{reader}/** -> y",
    hypotheses=({_quoted(name)},),
)
'''


def skeleton_files(path: Path, model: Model, spec: str, roles: Roles | None = None) -> dict[Path, str]:
    """Write the files of a skeleton about a model that is named `spec`: its module, at `path` (NAME.py).

    Where no study that can be found is about this model, the module goes into a folder NAME, with a study.py beside
    it. `roles` are those that its config says, or will say.
    Raises ScrubError if no head has a role.
    """
    roles = model.roles if roles is None else roles
    components = {node.label for node in walk([model.graph]) if node.label}
    study = _study_about(spec) if _layout(roles, spec)[0] == READER else None
    if study is not None:
        return {path: skeleton(roles, spec, components, study)}
    folder, data = path.with_suffix(""), model.data or "stdlib"
    return {
        folder / "study.py": study_module(FIRST, roles, spec, data),
        folder / f"{FIRST}.py": skeleton(roles, spec, components),
    }


def _layout(roles: Roles, model_name: str) -> tuple[str, list[str]]:
    """Choose the role that is read about, and the other roles of which a head lies below one of its heads."""
    highest = {role: max(layer for layer, _ in heads) for role, heads in roles.items() if heads}
    if not highest:
        raise ScrubError(
            f"no head of {model_name} has a role: measure them first ('scrub roles {model_name} --write'), or leave "
            "the model out"
        )
    reader = READER if READER in highest else max(highest, key=lambda role: highest[role])
    lowest = {role: min(layer for layer, _ in roles[role]) for role in highest}
    return reader, [role for role in highest if role != reader and lowest[role] < highest[reader]]


def _rules(reader: str, near: Sequence[str], copies: bool) -> list[str]:
    """Write the lines of a declaration: all that the reader's slots read is other, but for what is kept."""
    at = f"**/a*.{reader}"
    kept = {slot: f"{at}/{slot}/{_either(near)}" for slot in "qkv"}
    if copies:
        kept["k"] = f"{at}/k/a*.{COPIER}[previous]/v/**"
    width = max(map(len, kept.values()))
    lines = [f'splits  {f"{at}/k/a*.{COPIER}":{width}}  by mask "previous"'] if copies else []
    for slot, path in kept.items():
        lines += [f"{slot:8}{f'{at}/{slot}/**':{width}}  -> y", f"{'':8}{path:{width}}  -> x"]
    return lines


def _module(claim: str, rules: Sequence[str], study: str | None) -> str:
    lines = "".join(f"    {line}\n" for line in rules)
    tested = (
        f"    study={_quoted(study or '')},  # whose behaviour (model, data, positions, baseline) it is tested on\n"
    )
    return (
        f'"""{claim}"""\n\nfrom scrub import Hypothesis\n\nhypothesis = Hypothesis(\n    """\n'
        f'{_GUIDE}{lines}    """,\n{tested if study else ""})\n'
    )


def _study_about(model_name: str) -> str | None:
    """Find a study of a model's induction heads: the user's own first, then the shipped ones."""
    for name in known("hypotheses"):
        try:
            if (find("hypotheses", name) / "study.py").is_file():
                study, _ = load_study(name)
                if study.model == model_name and not study.roles and f".{READER}/" in study.baseline:
                    return name
        except ScrubError:  # a study that can't be used is nobody's to be tested on
            continue
    return None


def _prose(*paragraphs: str) -> str:
    """Fold paragraphs for a docstring, whatever a model is called."""
    safe = (one_line(text).replace("\\", "\\\\").replace('"""', "'''") for text in paragraphs)
    return (
        "\n\n".join(fill(text, WIDTH_CHARACTERS, break_long_words=False, break_on_hyphens=False) for text in safe)
        + "\n"
    )


def _quoted(text: str) -> str:
    return json.dumps(text)  # a Python string too, in double quotes


def _called(role: str) -> str:
    return _NAMES.get(role, f"{role} heads")


def _heads(heads: Sequence[tuple[int, int]]) -> str:
    return ", ".join(f"{layer}.{head}" for layer, head in heads)


def _either(steps: Sequence[str]) -> str:
    return steps[0] if len(steps) == 1 else f"{{{','.join(steps)}}}"


def _listed(texts: Sequence[str]) -> str:
    return " and ".join([*([", ".join(texts[:-1])] if texts[1:] else []), texts[-1]])
