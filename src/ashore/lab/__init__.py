"""Work of minutes and hours, in child processes that may be killed at any time.

Owns: training, optimizing, evaluation, learning, sizing and load tests. Refuses: to answer a client or to change a
right.
"""
