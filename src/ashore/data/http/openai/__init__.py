"""The routes that OpenAI clients speak to: parse, call, render."""
