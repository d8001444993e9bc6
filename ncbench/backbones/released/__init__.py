"""Reading the checkpoints that papers released."""
