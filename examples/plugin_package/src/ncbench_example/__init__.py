"""A method, a dataset and a noise protocol for ncbench."""
