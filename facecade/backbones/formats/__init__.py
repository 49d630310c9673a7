"""Parsers of other programs' network files; they need none of these programs, and do not trust the files."""
