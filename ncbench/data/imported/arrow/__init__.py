"""Arrow data of others: how large it is, before and after it is read."""
