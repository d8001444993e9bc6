"""Which pairs of a data set are mismatched: scores, calibrated probabilities, and lists to keep and to drop."""
