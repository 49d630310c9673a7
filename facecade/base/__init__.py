"""What every other package stands on: errors, artifacts on disk, seeds, progress."""
