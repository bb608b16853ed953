"""Guard lists: words that prompts and answers must not have, by category.

Owns: the lists in the state, how words are found in texts and in streams whatever their pieces. Refuses to own:
personal data (`data/privacy`), and which words are wrong: ashore ships no list.

Where to add what: a disguise that is undone: `fold` in data/privacy/folding.py. What a list may do: `Do` in lists.py.
"""

from ashore.data.guard.lists import (
    MOST_LISTS,
    MOST_WORDS,
    Compiled,
    Do,
    Guard,
    GuardList,
    Hits,
    ListSet,
    Where,
    words_in,
)
from ashore.data.guard.sql import count_lists, find_list, load_lists, remove_list, save_list
from ashore.data.guard.stream import WordOutlet
