"""Indirect objects in SmolLM2: who comes behind `After Robert and Jean had left, Jean showed the flower to`?

` Robert`: in 86 % of prompts that is the most probable token of all, in 97 % it is above ` Jean` (data/ioi, 200
prompts, SmolLM2-135M-Instruct). 100 % is the difference of these two logits in the model (4.4), 0 % what is left of
it where everything comes from a prompt of the same form: with three other names (-0.1), or, with `--data
ioi:swapped`, where the giver is the other of the two (-4.6).

The claim: heads of layer 23 (movers) look from the end at IO and copy the name there, by their values, which read
what MLP 0, and one more MLP, make of its embedding. Head 23.3 (suppressor) looks from the end at S2, and lowers the
name there, which its values read in the same way. That the movers look at IO and not at S1 is told to their queries:
at S2 induction heads look at the token behind S1, and duplicate-token heads at S1 itself, and head 20.0 (inhibition)
looks from the end at S2 and brings there what they wrote. Only where these heads look matters, not what they copy
from there. The parts are those of GPT-2 small (Wang et al. 2022, https://arxiv.org/abs/2211.00593), with one head of
inhibition, and with a head that writes against the giver.

How the refinements were found: clean into corrupted, percent of the difference of logits, on 16 prompts, by `scrub
patch smollm2 ... --count 16 --metric logit_diff`:

    --streams --by-name                  (ioi:names) the name lies at IO up to layer 23 (93), then at the end (138, and
                                         100 behind layer 24): layer 23 copies it, layer 24 writes against it (naive)
    'stream 4' .. --by-name              (ioi:swapped) who gives lies at S2 up to layer 19 (98); half of that comes to
                                         the end in layer 20 (44 there, 56 at S2), the other half in layer 23 (94, 7),
                                         so there are two ways (refined_3 and refined_4)
    'a23.0+1+2+7/q/*' --at end --back    (ioi:names) of the edges into the movers' queries 20.0 costs 31, 19.2 8,
                                         18.2 3, and any other less than 1.5 (refined_4)

`scrub direct smollm2 --data ioi:names --count 32` names the heads of layer 23: 23.3 has 2.2 of 4.7 logits, 23.2 and
23.0 0.8 each, 23.1 0.7, 23.7 0.5. Of the two logits by themselves (24 prompts, `direct_attribution` without wrong
answers) 23.3 leaves the right one alone (-0.1) and lowers the wrong one by 2.3; 24.4 lowers the right one by 1.4.
From the end 23.0, 23.1, 23.2 and 23.7 attend to IO with 0.38 to 0.61 (to S1 with 0.05 to 0.21), 23.3 to S2 with 0.60,
and 20.0 to S2 with 0.69. From S2 17.4 attends to the token behind S1 with 0.79, 17.5 with 0.53, 17.3 and 18.6 with
0.25 and 0.23; 8.1 to S1 with 0.82, 14.3 with 0.57, 8.0 with 0.52, 15.7 with 0.44 (means over 48 prompts). Single
lines, each beside the others of its kind, on 24 prompts:

    v/emb, v/m0/emb                  0, 29: the movers read MLP 0, not the embedding (refined_1)
    v[IO]/a*                         0: nor what heads bring to IO; the same at S2, for 23.3
    q[end]/a20.0/v, /q, /k           37, 1, 0: of head 20.0 what it reads matters, not where it looks
    .../a20.0/v[S2]/a17.{3,4,5}      17, all of it by their queries and keys, 0 by their values (refined_4)

`scrub sweep ioi_smollm2/refined_5 --null 20 --sequences 16` draws random hypotheses of its size, which keep as many
paths through the same layers and slots: -33 to 40 %, where it recovers 90.

Heads and lines were chosen on the first 16 to 48 of the 200 prompts, by trying about sixty variants of a line under
both corruptions. On 200 others (`--data ioi:names,seed=1`) refined_5 recovers 81.4 % [75.6, 87.6], and 92.4 [88.7,
96.1] with `ioi:swapped,seed=1`.

What it fails on (200 prompts where nothing else is said):

- Errors cancel. On 64 prompts of `ioi:names`, where refined_5 recovers 91 % [78, 110], it is 130 [114, 155] with all
  that the queries and keys of the five heads of layer 23 read on x as well, and 121 with what later MLPs read of
  these heads, but 64 [52, 80] with the whole of head 24.4, which writes against the answer. Whoever keeps more isn't
  nearer: what is left out speaks for both names.
- The mean hides much. A prompt's difference of logits is off by 2.3 on average, against either corruption (of 4.7
  under the baseline of three other names, and of 9.1 under the swapped one).
- The rest of the prediction is another matter: of the loss of the answer, which three other names raise from 1.0 to
  7.5 nats, 38 % [36, 41] come back, and the KL divergence is 2.3 nats. Against swapped names it is 92 % [88, 95] of
  the loss, and 0.5.
- Naive to refined_2 recover 0 against swapped names, and scrub warns that their rules change nothing there: both
  prompts have the same name at IO.
"""

from scrub import Study

study = Study(
    model="smollm2",
    data="ioi:names",
    baseline="** -> y",
    metric="logit_diff",
    roles={
        "smollm2": {
            "mover": [(23, 0), (23, 1), (23, 2), (23, 7)],
            "suppressor": [(23, 3)],
            "inhibition": [(20, 0)],
            "induction": [(17, 3), (17, 4), (17, 5), (18, 6)],
            "duplicate": [(8, 0), (8, 1), (14, 3), (15, 7)],
        }
    },
    hypotheses=("naive", "refined_1", "refined_2", "refined_3", "refined_4", "refined_5"),
)
