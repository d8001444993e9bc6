"""Noise protocols: recipes that turn the true correspondence of a training set into the claimed one.

A protocol has a name and a version. The noise it draws depends only on name, version, ratio, seed and training set.
Its *unit* is what moves: single `captions`, `images` with all their captions, `words` within captions, or for each of
the `pairs` its image or its words. The same ratio means different things for different units: with five captions per
image and 40 % noise, 99 % of the images keep a correct caption if captions move, and 60 % if images move.

To add a protocol, write a function from a `NoiseRequest` to the claimed correspondence and its unit, wrap it in a
`NoiseProtocol`, and register it under the entry-point group `ncbench.noise` or put it in a file
(`ncbench.plugins.source_files`). Any change to the noise of an existing protocol requires a new version.
"""
