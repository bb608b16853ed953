"""Guard lists: who makes and changes them, and what they find in a text.

Owns: the calls. Refuses to own: finding words and holding streams back (`data/guard`, `data/path/guarding.py`).
"""
