"""The checks of `ncbench methods check`."""
