"""Training: checkpoints in and out of the store.

Owns what changes weights by gradients. Refuses to know how a variant is quantised or judged, and who may use it.
"""

from ashore.training.checkpoints import load_checkpoint, save_checkpoint

__all__ = ["load_checkpoint", "save_checkpoint"]
