"""What any process needs: files, seeds, state, devices, signals. Knows nothing of noisy correspondence."""
