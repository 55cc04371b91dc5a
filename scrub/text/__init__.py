"""The means by which everything else says things: errors, files, numbers, tables, progress, and how results look."""
