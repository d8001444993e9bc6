"""Conformance checks of methods, datasets and noise protocols.

Authors run them with `ncbench methods check`, `ncbench data check` and `ncbench noise check`. The tests of ncbench run
them on everything that is registered.
"""
