"""A folder of static files that searches in the browser: no server of ours, no foreign request."""
