"""Run records: one folder per run, and many of them as a table."""
