"""Input data: labels, tables, folds, images, face crops."""
