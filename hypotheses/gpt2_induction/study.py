"""Induction in a GPT-2: what do its induction heads read, now that there are MLPs and more layers?

100 % is the model; 0 % is the model with everything that its induction heads read, wherever they lie and whatever
reads them, on another sequence. The positions are those whose token stands earlier in its sequence, where there is
something to induct from; they need no whitelist, so the study runs on any GPT-2 whose roles are known.

How the refinements were found, on gpt2-mini: one component at a time was cut (`**/a*.ind/q/m0 -> y`), or kept alone
(`**/a*.ind/q/** -> y`, then `**/a*.ind/q/m0 -> x`), at what the queries, keys and values of all induction heads read.
Percent recovered on 32 sequences:

                      queries        keys          values
                      cut   alone    cut   alone   cut   alone
    none / all        100   28       100   30      100    5
    emb               100   28       100   30      100    6
    m0                 35   90        36   92       20   98
    m1                 98   30        98   31      100   15
    a1.rest            98   29        98   31      100    4
    any other          99+  29        99+  31       99+  12 or less

So nearly everything comes through MLP 0, and something through MLP 1 (refined 4 and 5). The same below MLP 0, where all
else that it reads is other (24 sequences):

    m0 reads                                    queries  keys  values
    emb                                         29       28    28
    emb, a0.prev                                34       70    25
    emb, a0.self                                57       29    92
    emb, a0.prev, a0.self                       72       75    93
    emb, all heads at the current position      51       29    84
    emb, all heads at the previous position     33       63    26
    emb, all heads at the last three positions  67       78    86

Values read their own token by way of the current-token head, keys the token before by way of the previous-token head,
and queries something of both (refined 1, 2 and 3).
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
