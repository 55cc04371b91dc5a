"""Models: their families as graphs, their files in any layout, and where they are found."""
