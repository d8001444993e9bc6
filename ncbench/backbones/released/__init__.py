"""Checkpoints that papers released."""
