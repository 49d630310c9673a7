"""Benchmarks: each script measures one claim and writes its page."""
