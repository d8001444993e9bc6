"""Noise protocols: recipes that turn the true correspondence of a training set into the claimed one.

A protocol is named and versioned, and the noise that it draws depends on (name, version, ratio, seed, training set)
only. Its *unit* is what moves: single `captions`, `images` with all of their captions, or `words` within captions.
These are not comparable at one ratio: with five captions per image and 40 % noise, 99 % of the images keep a correct
caption in the first case and 60 % in the second.

A new protocol is one function from a `NoiseRequest` to the claimed correspondence and its unit, in a `NoiseProtocol`
that is registered under the entry-point group `ncbench.noise`, or lies in a file (`ncbench.plugins.source_files`).
Whatever changes the noise of an existing one changes its version.
"""
