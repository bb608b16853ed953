"""Models on demand in memory, for operators.

Owns: the calls `model ps|warm|cool|pin|unpin`. Refuses: eviction (`machine/residency`), starting and ending engine
hosts (`machine/deployment`), moving bytes (`kit/store`).
"""
