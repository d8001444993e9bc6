"""Scorers: how well the image of one pair fits the caption of another."""
