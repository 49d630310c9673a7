"""Broken input for `benchmarks/reliability.py` and `tests/test_reliability.py`: each module tries one kind, and tallies what happened."""
