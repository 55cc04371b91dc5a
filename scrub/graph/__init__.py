"""The explicit computational graph: nodes, the table of operations, position masks."""
