"""The command line: ``leafkit COMMAND recipe=NAME key=value ...``."""
