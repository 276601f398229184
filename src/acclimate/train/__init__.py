"""The training loop, its batches, and the second-order solver for heads on cached features."""
