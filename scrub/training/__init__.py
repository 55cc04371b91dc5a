"""Training of the attention-only model in the box: corpus, tokenizer, loss, optimiser, loop, mechanism checks."""
