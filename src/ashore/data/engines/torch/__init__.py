"""The `torch` engine: transformers in single precision, the reference that the others are compared with.

Owns: one model of transformers, a sequence at a time. Refuses: speed.
"""
