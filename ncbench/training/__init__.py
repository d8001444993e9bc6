"""One run: train a method within its budget, select on dev, test, record."""
