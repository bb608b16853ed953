"""Smaller and faster variants and models: what is made of a stored model, by which recipe.

Owns the recipes. Refuses to judge what came out (`evaluation`), to run gradients (`training`) and to serve.
"""

__all__: list[str] = []
