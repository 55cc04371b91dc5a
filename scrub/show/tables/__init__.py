"""Results as tables, as a terminal or a notebook shows them."""
