"""Used by every other package: errors, artifact files, seeds, progress bars, threads."""
