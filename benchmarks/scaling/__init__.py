"""What benchmarks/scale.py measures with: clusters on one machine, what fits and processes do meanwhile, and the bounds of a large job."""
