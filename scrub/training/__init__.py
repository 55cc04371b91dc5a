"""Training of the models in the box: corpus, tokenizer, loss, optimiser, loop, mechanism checks."""
