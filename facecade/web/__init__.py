"""A page to drop images on, and the same answers for programs."""
