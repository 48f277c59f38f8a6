"""Model folders that others wrote: which modules they hold, and the transformer that they mean."""
