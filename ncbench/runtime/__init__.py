"""Process-level utilities: files, seeds, state, devices, signals. Independent of noisy correspondence."""
