"""report.html: one page, with nothing outside it, of what a model scores, where it goes wrong and what it looks at."""
