"""One module per command, each with ``run``: load, call, save."""
