"""Compare and tune recipes on the same people and folds and, on request, with the same compute."""
