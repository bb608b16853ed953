"""Figures of an API worker over time, in the state.

Owns: the series and the ring of the last hours. Refuses: to show them.
"""
