"""The report of a study: one self-contained HTML page, Markdown, and tables."""
