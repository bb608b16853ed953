"""Shared vocabulary, pure: ids, chat messages, model shapes, clocks, sizes, and the tree of errors.

Owns: words that every tower uses. Refuses: files, sockets, processes. Import its modules by name: it has no front.
"""
