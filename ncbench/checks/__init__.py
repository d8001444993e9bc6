"""Conformance: whether a method, a dataset or a noise protocol keeps the contracts that comparisons rest on.

It is shipped for those who write them (`ncbench methods check`, `data check`, `noise check`); the tests of ncbench run
it over everything that is registered.
"""
