"""The console: web pages over the declared calls, for people.

Owns: pages, forms, words in two languages, how refusals are worded. Refuses to own: rights (the authority decides,
as it does for HTTP), log-in and cookies (`sessions`), and acts (each is a call; a page without a call does nothing).

A call has its page without a line here: `forms.py` makes its form, `present.py` shows its answer, `command.py` says
which command does the same, `pages.py` places it by its noun. Chinese words of a new call go to `words/calls.zh.toml`.
"""

from ashore.control.console.command import command_for
from ashore.control.console.console import Console, words_of
from ashore.control.console.model import Answer, Asked
