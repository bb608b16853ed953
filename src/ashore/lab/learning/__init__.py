"""A run that learns from votes: an order without state, an adapter, a gate, a release asked for by a call.

Owns: the run and its verdict. Refuses: to promote a model that did not pass the gate, and to collect votes.
"""
