"""The folder of published numbers and leaderboards, a package so that reports find `published.csv` after an install."""
