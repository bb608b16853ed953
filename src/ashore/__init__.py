"""ashore serves open models on an enterprise's own machines."""

__version__ = "0.1.0"
