"""How anything of ours is built: calls, sections, rooms, state, store, sealing, processes, metrics, files, addresses.

Owns: what every tower stands on and that acts on the world. Refuses: to know a tower. Import its modules by name: it
has no front, so that a small process loads little.
"""
