"""Training: Lightning modules, the optimiser, and the only place that builds a Trainer."""
