"""Imported datasets: anything that `datasets` reads, or pictures with captions, converted once to a local store."""
