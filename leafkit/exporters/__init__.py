"""Students as folders that other tools load: one module per target.

The room is not called export: ``leafkit.export`` is the function, and a package of that name would
take its place as soon as it is imported.
"""
