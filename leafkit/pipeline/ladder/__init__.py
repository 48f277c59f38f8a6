"""Several encoders on one index, and the router that chooses one for each query."""
