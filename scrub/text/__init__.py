"""What everything else says things with: errors, files, numbers, tables, progress, and how results look."""
