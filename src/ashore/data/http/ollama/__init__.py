"""The read-only part of Ollama's API: chat, generate, embed, and what is served. `[http] ollama` turns it on."""
