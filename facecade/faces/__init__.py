"""What goes in: labels, tables, folds, images, face crops."""
