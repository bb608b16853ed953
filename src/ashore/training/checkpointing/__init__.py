"""Checkpoints of a training run: written while it goes on, kept on disk and in a bucket, read back bit for bit."""
