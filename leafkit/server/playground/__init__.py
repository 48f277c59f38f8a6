"""The playground: a page at ``/`` that asks one question three ways, from files in this package."""
