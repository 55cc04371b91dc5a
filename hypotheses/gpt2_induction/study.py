"""Induction in a GPT-2: what do its induction heads read, now that there are MLPs and more layers?

100 % is the model; 0 % is the model with everything that its induction heads read, wherever they lie and whatever
reads them, on another sequence. The positions are those whose token stands earlier in its sequence, where there is
something to induct from; they need no whitelist, so the study runs on any GPT-2 whose roles are known.
"""

from scrub import Study

study = Study(
    model="gpt2-mini",
    data="stdlib",
    positions="repeats",
    context=300,
    baseline="**/a*.ind/** -> y",
    hypotheses=("naive", "refined_1", "refined_2", "refined_3", "refined_4", "refined_5"),
)
