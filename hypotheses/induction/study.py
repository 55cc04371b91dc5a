"""How do the induction heads of a 2-layer attention-only model work?

The behaviour is what they add to the prediction of the next token, after tokens where induction helps:
the baseline runs the induction heads, and nothing else, on another sequence. The study is the published
one of Redwood Research (https://www.alignmentforum.org/s/h95ayYYwMebGEYN5y/p/j6s9H9SHrEhEfuJnq): a naive
hypothesis, and five refinements of it.
"""

from scrub import Study

study = Study(
    model="attn2l",
    data="stdlib",
    positions="whitelist",
    published_model="redwood_attn_2l",
    baseline="a1.ind/** -> y",
    hypotheses=("naive", "refined_1", "refined_2", "refined_3", "refined_4", "refined_5"),
)
