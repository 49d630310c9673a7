"""A page to drop photographs on, and the same answers for programs."""
