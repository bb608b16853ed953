"""How each reading is taken: files of /proc and /sys, files of the home, questions to the server and what is beside it.

A probe reads and says; it changes nothing but a small file in the home that shows whether the disk can be written. One
that fails takes down its own readings alone (`Missing`). `/` can be another folder, in tests.
"""
