"""How stages become 18 labels, from arrays alone."""
