"""Administration over HTTP: calls, pages, votes and the stream of events.

Owns: how bytes become calls. Refuses: to decide anything.
"""
