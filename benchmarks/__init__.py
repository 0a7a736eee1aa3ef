"""Vmport beside its peers, on this machine, in one run: ``python -m benchmarks``."""
