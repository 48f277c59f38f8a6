"""The steps of a run: load, call, save."""
