"""The routes that Anthropic clients speak to: parse, call, render."""

__all__: list[str] = []
