"""A run that learns from votes: an order without state, an adapter, a gate, a release asked for by a call.

Owns: the run. Refuses: to collect votes.
"""
