"""Data sets from elsewhere: what `datasets` reads, or pictures with captions, converted once into a local store."""
