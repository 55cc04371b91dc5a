"""Where the previous-token head looks matters for the keys only by whether the position is typical: at
some tokens the head departs from the previous position, whatever the rest of the text. So its attention
is drawn, position by position, from sequences of the same typicality there, instead of from any sequence.
Everything else is as in refined 4. In attn2l, the head gives the previous position 0.91 of its attention
on average, but only 0.01 after "_", 0.08 after "-", 0.10 after "." and 0.17 or less at " #" and "TypeError";
these two classes explain 93 % of the variance ('scrub typicality attn2l', on text that no study scores).
In Redwood's model the published classes are: atypical after a byte of a curly quote, after " a" or " an", and
at "." or " to".
"""

from scrub import Hypothesis, TokenFeature

# Redwood's model comes without a tokenizer. Its ids are GPT-2's, where a byte is the token of its rank among the 188
# printable ones, then the others: "." (0x2e) is 13, and of the curly quotes' bytes e2 80 98/99/9c/9d the last are 246,
# 247, 250 and 251, after the merge of the first two, 447. Merges begin at 256: " a" is 257, " an" 281, " to" 284.
typicality = {
    "attn2l": TokenFeature(current=(" #", "TypeError"), previous=(".", "_", "-")),
    "redwood_attn_2l": TokenFeature(current=(13, 284), previous=(447, 246, 247, 250, 251, 257, 281)),
}

hypothesis = Hypothesis(
    """
    splits  a1.ind/q/a0.self                          by identity
            a1.ind/q/a0.{prev,rest}                   by mask "last three"
            a1.ind/k/a0.*                             by mask "last three"
            a1.ind/v/a0.*                             by mask "current"
    q       a1.ind/q/a0.*/**                          -> y
            a1.ind/q/a0.self[identity]/**             -> x
            a1.ind/q/a0.{prev,rest}[last three]/v/emb -> x
    k       a1.ind/k/a0.*/**                          -> y
            a1.ind/k/a0.*[last three]/v/emb           -> x
            a1.ind/k/a0.prev*/{q,k}/**                -> rows like typicality
    v       a1.ind/v/a0.*/**                          -> y
            a1.ind/v/a0.*[current]/v/emb              -> x
    """,
    features={"typicality": typicality},
    published={"q": 97, "k": 94, "v": 97, "all": 89},
)
