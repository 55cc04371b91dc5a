"""The published circuit as it was measured: its heads at their positions, whole, and all MLPs.

Nodes and no paths: name movers, backup and negative ones and S-inhibition heads at the end, induction and
duplicate-token heads at S2, previous-token heads behind S1, and every MLP, are computed from what the model then
has; what every other head writes, and these heads at other positions, is held. Held at what? The paper takes the
mean over prompts with three other names, at each position of a template: that is `--other 'mean by template'` on
`ioi:names`; without it, it is what the head writes on the one other prompt. The published measure is the column
`ratio`: F(circuit) / F(model), each F the mean difference of logits, which gave 87 percent in GPT-2 small. What is
recovered is 0 at the baseline instead.
"""

from scrub import Hypothesis

hypothesis = Hypothesis(
    """
    splits  **/a*.{*mover,inhibition}    by positions end
            **/a*.{induction,duplicate}  by positions S2
            **/a*.previous               by positions S1+1
    nodes   **/a*.rest/**   -> y
            **/a*[rest]/**  -> y
    """,
    published_ratios={"nodes": 87},
    published_other="mean by template",
    published_data="ioi:names",
)
