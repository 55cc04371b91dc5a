"""Indirect objects: how does GPT-2 small go on behind `Robert and Jean had left the office, Jean showed the flower to`?

The circuit is published (Wang et al. 2022, Interpretability in the Wild, https://arxiv.org/abs/2211.00593), and
this is it in rules: 26 heads, in seven roles. 100 % is the difference of the logits of the two names in the model,
0 % what is left of it where everything comes from a prompt of the same form with three other names (data/ioi).

The claim: duplicate-token heads (0.1 0.10 3.0), and induction heads (5.5 5.8 5.9 6.9) by way of previous-token
heads (2.2 4.11), see at S2 that the giver was named before. S-inhibition heads (7.3 7.9 8.6 8.10) bring that to the
end, into the queries of the name movers (9.9 9.6 10.0), which look away from that name, and copy the other. Backup
name movers do the same where those are ablated, negative ones (10.7 11.10) write against it. The refinements build
it back from the end: naive has the values of the name movers, refined_1 the S-inhibition heads, refined_2 the
duplicate-token heads, refined_3 the induction and previous-token heads, refined_4 the backup and negative name
movers. Between two heads of a path there may be any MLPs, and nothing else.

The roles are the study's, and of GPT-2 small alone: config.json of that model gives some of these heads other ones.

What was measured, and what was not: no number of GPT-2 small is here. The rules were run on
random weights of that shape, whose numbers say nothing of it. What is published is which heads there are, what each
does, and that the circuit keeps 87 percent of the difference of logits. That percentage is another formula on
another corruption than the usual ones here, so four numbers belong side by side:

    scrub run ioi ioi/as_published                                  paths, then nodes; against three other names
    scrub run ioi ioi/as_published --data ioi:swapped               against the giver swapped with the other
    scrub run ioi/as_published --other 'mean by template'           as published: `ratio` is F(circuit) / F(model)
    scrub run ioi/as_published --other 'mean by template' --data ioi:swapped

`recovered` is 100 (F - F_baseline) / (F_model - F_baseline), `ratio` 100 F / F_model: the two agree where the
baseline's F is 0, as three other names should leave it. Against swapped names it is about -F_model, so that
`recovered` is then near (1 + ratio) / 2: half where nothing is kept but a difference of 0. Such prompts have the
same two names at the same places: only what depends on which of them comes twice is resampled there, and a rule
about the name at IO or S1 is idle.

Where this differs from the paper even so: the sentences are this project's own (for theirs give a table, --data
FILE); the names are 70 and not 100; and a prompt's mean is over as many prompts as are run, of 12 templates (six
sentences, two orders of the names), so take at least 128.
"""

from scrub import Study

study = Study(
    model="gpt2",
    data="ioi:names",
    baseline="** -> y",
    metric="logit_diff",
    published_model="gpt2",
    roles={
        "gpt2": {
            "mover": [(9, 9), (9, 6), (10, 0)],
            "inhibition": [(7, 3), (7, 9), (8, 6), (8, 10)],
            "induction": [(5, 5), (5, 8), (5, 9), (6, 9)],
            "duplicate": [(0, 1), (0, 10), (3, 0)],
            "previous": [(2, 2), (4, 11)],
            "negative_mover": [(10, 7), (11, 10)],
            "backup_mover": [(9, 0), (9, 7), (10, 1), (10, 2), (10, 6), (10, 10), (11, 2), (11, 9)],
        }
    },
    hypotheses=("naive", "refined_1", "refined_2", "refined_3", "refined_4"),
)
