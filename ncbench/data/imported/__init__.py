"""Imported datasets: what `datasets` has as tables, or pictures with captions, converted once to a local store."""
