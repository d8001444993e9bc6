"""What `ncbench methods check` examines."""
