"""Hard negatives and the ranking-consistency filter."""
