"""Names of other libraries for places in a model, answered with ours.

They are TransformerLens's hooks, transformers' modules, and the edges of EAP-IG and MIB.

Nothing here is read as a site: a name says which of ours is meant, in one line.
"""

from __future__ import annotations

import re

from scrub.text.errors import ScrubError

EAP_INPUT, EAP_LOGITS = "input", "logits"  # our emb and out
_NODE = rf"{EAP_INPUT}|{EAP_LOGITS}|a\d+\.h\d+|m\d+"
EAP_EDGE = re.compile(rf"({_NODE})->({_NODE})(?:<([qkv])>)?")
_LENS = re.compile(
    r"(?:blocks\.(\d{1,4})\.)?((?:attn\.|mlp\.|ln\d(?:_post)?\.|ln_final\.)?hook_\w+|(?:attn|mlp|ln\d(?:_post)?))"
)
# transformers' modules: of GPT-2, GPT-Neo and GPT-J; of GPT-NeoX; of Llama and all that are built like it
_THEIRS = re.compile(
    r"(?:model\.)?(?:transformer\.h|gpt_neox\.layers|model\.layers|layers)\.(\d{1,4})(?:\.([\w.]+))?"
    r"|(?:model\.)?(?:transformer|gpt_neox|model)\.(\w+)"
)
_HEAD = "| (a{L}.3 is one head)"
_IN_FRONT = "in front of the norm behind it, where a model has one"
# what each is called here, {L} being its layer and {M} the next one; what is said besides stands behind the line
LENS_NAMES = {
    "hook_embed": "emb",
    "hook_resid_pre": "'stream {L}'",
    "hook_resid_post": "'stream {M}'",
    "attn.hook_z": f"a{{L}}{_HEAD}; what is read and what is written by it are changed together",
    "attn.hook_result": f"a{{L}}{_HEAD}",
    "hook_attn_out": f"a{{L}}{_HEAD}, without the bias that no head writes, and {_IN_FRONT}",
    "hook_mlp_out": f"m{{L}}|, {_IN_FRONT}",
    "attn": f"a{{L}}{_HEAD}",
    "mlp": "m{L}",
    "attn.hook_v": "a{L}/v| (a{L}.3/v of one head): all that it reads; zero is then put there",
    **{
        f"attn.hook_{slot}": f"a{{L}}/{slot}| (a{{L}}.3/{slot} of one head): all that it reads; zero is then put "
        f"there, and what it gives is what attn.hook_rot_{slot} does, behind norms and rotation where a model has them"
        for slot in "qk"
    },
    **{f"attn.hook_rot_{slot}": f"a{{L}}/{slot}| (a{{L}}.3/{slot} of one head): all that it reads" for slot in "qk"},
    **{
        f"hook_{slot}_input": f"a{{L}}/{slot}|, and a{{L}}.3/{slot}/a0.1 is what one head reads of another there"
        for slot in "qkv"
    },
    "hook_attn_in": "'a{L}/q+a{L}/k+a{L}/v'|",
    "attn.hook_pattern": "'a{L}/q+a{L}/k'|, all that it is made of; --attend a{L}.3=PATTERN forces a pattern",
    "attn.hook_attn_scores": "'a{L}/q+a{L}/k'|, all that they are made of; --attend a{L}.3=PATTERN forces a pattern",
    "hook_mlp_in": "what m{L}/* lists|: m{L}/emb, m{L}/a0.1 and so on are the edges into it, which + joins",
}
_THEIR_HEADS = (
    *("attn", "attn.c_proj", "attn.out_proj", "attn.attention", "attn.attention.out_proj", "attention"),
    *("attention.dense", "self_attn", "self_attn.o_proj", "self_attn.dense"),
)
_THEIR_MLPS = ("mlp", "mlp.c_proj", "mlp.fc_out", "mlp.fc2", "mlp.dense_4h_to_h", "mlp.down_proj")
_THEIR_NAMES = {
    **dict.fromkeys(("wte", "embed_in", "embed_tokens"), "emb"),
    **dict.fromkeys(_THEIR_HEADS, f"a{{L}}{_HEAD}"),
    **dict.fromkeys(_THEIR_MLPS, "m{L}"),
    "": "'stream {M}'| (what enters it is 'stream {L}')",
}


def check_foreign(text: str) -> None:
    """Raise ScrubError that says what is meant, if some text is another library's name for a place in a model."""
    named = text.partition("@")[0].strip()
    lens, theirs = _LENS.fullmatch(named), _THEIRS.fullmatch(named)
    if lens is None and theirs is None:
        return
    match, table = (lens, LENS_NAMES) if lens is not None else (theirs, _THEIR_NAMES)
    assert match is not None
    inner = match[2] or (match[3] or "" if match is theirs else "")
    if match is lens and match[1] is None and inner in {"attn", "mlp"}:
        return
    layer = int(match[1] or 0)
    if (ours := table.get(inner)) is not None and (match[1] is not None or "{" not in ours):
        said = ours.replace("{L}", str(layer)).replace("{M}", str(layer + 1))
        site, _, besides = said.partition("|")
        raise ScrubError(f"{named!r} is called {site} here{besides}")
    raise ScrubError(
        f"{named!r} is no site here: sites are a5.3 (head), a5 (layer), m5 (MLP), emb, a5.3/k (slot), a5.3/k/a0.1 "
        "(edge) and 'stream 5'"
    )


def eap_edge(text: str) -> str:
    """Write an edge that is named as EAP-IG does as we do: `eap_edge("a0.h1->a1.h2<k>")` is "a1.2/k/a0.1".

    Nothing where it is no such name.
    """
    if (found := EAP_EDGE.fullmatch(text)) is None:
        return ""
    sender, reader, slot = found.groups()
    known = {EAP_INPUT: "emb", EAP_LOGITS: "out"}
    sender, reader = (known.get(name, name.replace(".h", ".")) for name in (sender, reader))
    return f"{reader}{f'/{slot}' if slot else ''}/{sender}"
