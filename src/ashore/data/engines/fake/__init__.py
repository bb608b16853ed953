"""An engine without a model: echoes or babbles at a chosen rate, and fails on demand.

Owns: `fake:echo`, `fake:random`, `fake:tools` and `fake:agent` with their options, and the tiny tokenizer files that
make them usable everywhere a model is. For load tests, for drills, and for trying ashore with no model at all.
"""
