"""The routes that Anthropic clients speak to: parse, call, render."""
