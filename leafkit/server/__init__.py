"""A pair over HTTP, in the shape of OpenAI's embeddings API.

The room is not called serve: ``leafkit.serve`` is the function, and a package of that name would
take its place as soon as it is imported.
"""
