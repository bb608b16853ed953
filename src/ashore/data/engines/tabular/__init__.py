"""Heads: small models on features, such as a credit scorecard or a linear guard on an embedding.

Owns: the form of a head, its arithmetic in whole numbers, and the same on an encrypted row. Refuses: text.
A head answers text all the same: rows as JSON in, scores as JSON out, a byte a token. So access, budgets, the audit
log, releases, shadow and the cache are those of every other model.
"""
