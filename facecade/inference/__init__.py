"""Photographs in, answers out."""
