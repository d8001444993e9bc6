"""Published results and leaderboards. This is a package so that `published.csv` is installed with ncbench."""
