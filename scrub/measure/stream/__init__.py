"""What stands in the residual stream, as logits: what each component adds to them, and what they are layer by layer."""
