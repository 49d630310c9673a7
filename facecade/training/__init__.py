"""How any stage learns: backbone, losses, sampling, augmentation, the loop."""
