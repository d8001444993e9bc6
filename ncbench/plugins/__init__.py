"""Plugins: methods, datasets and noise protocols from installed packages and from files."""
