"""How a stage is trained: losses, sampling, augmentation, optimizer, the loop, and prediction."""
