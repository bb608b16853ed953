"""ashore brings DeepSeek models onto an enterprise's own machines and keeps them there."""

__version__ = "0.1.0"
