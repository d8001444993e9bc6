"""Datasets: images as region features, tokenised captions, and which caption describes which image."""
