"""Looking at hypotheses: the tree of paths coloured by source, as text, as a drawing, as a page."""
