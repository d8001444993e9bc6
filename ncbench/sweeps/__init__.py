"""Sweeps: grids of runs, and how they are planned, launched, monitored and replayed."""
