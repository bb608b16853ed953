"""ashore brings DeepSeek models onto an enterprise's own machines and keeps them there."""

__all__ = ["__version__"]
__version__ = "0.1.0"
