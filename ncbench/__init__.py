"""A benchmark suite for noisy correspondence."""
