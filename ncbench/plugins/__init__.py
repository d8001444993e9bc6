"""Methods, datasets and noise protocols as plugins: in files, or registered by installed packages."""
