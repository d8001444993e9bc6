"""Pages of a report: markdown, HTML, LaTeX."""
