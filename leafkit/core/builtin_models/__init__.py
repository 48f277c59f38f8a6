"""The models that have a name of their own here, ``builtin:NAME``."""
