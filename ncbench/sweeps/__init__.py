"""Grids of runs: planned, launched, monitored, replayed."""
