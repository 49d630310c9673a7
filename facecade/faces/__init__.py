"""What goes in: labels, tables, folds, photographs, face crops."""
