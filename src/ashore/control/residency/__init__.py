"""Models on demand in memory: loading, eviction, and their status for operators.

Owns: the eviction rule, the status of models on demand, `[tiers]`, the calls `model ps|warm|cool|pin|unpin`. Refuses:
starting and ending engine hosts, which `deployment` does; moving bytes, which `store` does.
"""
