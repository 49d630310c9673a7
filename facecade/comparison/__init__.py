"""Several recipes on the same people, folds and, where asked, the same compute."""
