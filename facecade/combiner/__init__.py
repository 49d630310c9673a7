"""Combines stage outputs into 18 classes; works on arrays alone."""
