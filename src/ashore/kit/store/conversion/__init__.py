"""From what people publish to what engines read: vocabularies, templates, shapes, GGUF files. No torch."""
