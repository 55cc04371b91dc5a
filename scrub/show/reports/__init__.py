"""A report of a study: one page of HTML that needs nothing else, and the same as Markdown with its images."""
