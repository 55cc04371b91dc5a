"""Names of other libraries are answered with sites, and no site is taken for one of theirs."""

from __future__ import annotations

import re

import pytest
from small import small_gpt2

from scrub.paths.foreign import LENS_NAMES, check_foreign
from scrub.paths.sites import components, heads, read_sites, streams, sweep
from scrub.text.errors import ScrubError

GRAPH = small_gpt2(7).graph


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("blocks.5.attn.hook_z", "a5"),
        ("blocks.3.hook_resid_pre", "'stream 3'"),
        ("blocks.3.hook_resid_post", "'stream 4'"),
        ("blocks.2.hook_mlp_out", "m2"),
        ("blocks.5.attn.hook_q", "a5/q"),
        ("blocks.5.attn.hook_rot_k", "a5/k"),
        ("hook_embed", "emb"),
        ("blocks.5.attn.hook_result", "a5"),
        ("blocks.2.hook_attn_in", "'a2/q+a2/k+a2/v'"),
        ("blocks.2.attn.hook_pattern", "'a2/q+a2/k'"),
        ("blocks.1.hook_k_input@end", "a1/k"),
        ("transformer.h.5.attn", "a5"),
        ("transformer.h.5.mlp", "m5"),
        ("transformer.wte", "emb"),
        ("model.layers.5.self_attn", "a5"),
        ("model.layers.5.mlp.down_proj", "m5"),
        ("model.model.layers.5", "'stream 6'"),
        ("layers.3.self_attn.o_proj", "a3"),
        ("model.embed_tokens", "emb"),
        ("gpt_neox.layers.5.attention.dense", "a5"),
        ("gpt_neox.embed_in", "emb"),
        ("transformer.h.2.attn.attention", "a2"),
    ],
)
def test_their_name_is_answered_with_ours(theirs: str, ours: str) -> None:
    with pytest.raises(ScrubError) as raised:
        read_sites(theirs, GRAPH, {})
    said = str(raised.value)
    assert said.startswith(f"{theirs.partition('@')[0]!r} is called {ours} here")
    assert "\n" not in said
    assert read_sites(ours.strip("'"), GRAPH, {})


@pytest.mark.parametrize(
    ("theirs", "besides"),
    [
        ("hook_attn_out", "in front of the norm behind it"),
        ("hook_mlp_out", "in front of the norm behind it"),
        ("attn.hook_q", "what attn.hook_rot_q does, behind norms and rotation"),
        ("attn.hook_k", "what attn.hook_rot_k does, behind norms and rotation"),
    ],
)
def test_where_ours_is_another_value_it_is_said(theirs: str, besides: str) -> None:
    """TransformerLens has its names behind a post-norm, and in front of what turns queries and keys."""
    with pytest.raises(ScrubError, match=besides):
        check_foreign(f"blocks.1.{theirs}")


@pytest.mark.parametrize(
    "theirs",
    [
        "ln_final.hook_normalized",
        "hook_pos_embed",
        "blocks.1.ln1.hook_scale",
        "blocks.1.ln1_post.hook_normalized",
        "blocks.0.hook_resid_mid",
        "model.layers.2.input_layernorm",
        "model.norm",
    ],
)
def test_what_is_no_site_is_said_to_be_none(theirs: str) -> None:
    with pytest.raises(ScrubError, match="is no site here"):
        read_sites(f"a0.1+{theirs}" if theirs.startswith("a") else theirs, GRAPH, {})


def test_every_name_says_one_of_our_sites() -> None:
    for theirs in LENS_NAMES:
        with pytest.raises(ScrubError) as raised:
            check_foreign(f"blocks.5.{theirs}")
        (ours,) = re.findall(r"is called (.*?) here", str(raised.value))
        for site in re.findall(r"stream \d|a5/[qkv]|[am]5(?:/\*)?|emb", ours):
            assert sweep(site, GRAPH) if "*" in site else read_sites(site, GRAPH, {})


def test_our_sites_are_none_of_theirs() -> None:
    for site in [*heads(GRAPH), *streams(GRAPH), *components(GRAPH), "a1.2/k/a0.1", "m1@S2", "a0.prev", "layers"]:
        check_foreign(site)
