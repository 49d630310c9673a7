"""Scores with their intervals, and tables and texts made of them."""
