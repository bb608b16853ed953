"""Checkpoints of a training run: written during training, stored on disk and in a bucket, read back bit for bit."""
