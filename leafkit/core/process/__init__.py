"""This process among others: the lock on a folder, workers, signals that stop it."""
