"""Files that other programs keep networks in, read without those programs, and without trust."""
