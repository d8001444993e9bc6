"""The checks of `ncbench backbones check`."""
