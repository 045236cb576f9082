"""Benchmarks of fastmlp against a plain NumPy implementation; ``python -m bench`` runs them all."""
