"""fastmlp beside the libraries that do the same work; ``python -m bench compare`` measures and writes the report."""
