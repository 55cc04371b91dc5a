"""Symbols of rows of parens, and how many a row has."""

START, PAD, END, OPEN, CLOSE = range(5)
TEXTS = ("[start]", "[pad]", "[end]", "(", ")")  # by their ids
LONGEST = 40  # parens of a row
POSITIONS = LONGEST + 2  # with the start and the end
