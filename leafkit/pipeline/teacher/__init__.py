"""Training a teacher: its stages, their rows, batches, hard negatives, soft labels and soups."""
