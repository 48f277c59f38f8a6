"""A query encoder for an index whose model is gone, and the certificate of what it is worth."""
