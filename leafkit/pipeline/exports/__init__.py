"""What a recipe's own export has beyond ``leafkit.export``."""
