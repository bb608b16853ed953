"""Feedback on answers, as it is administered: who may teach which model, when runs begin, and what came of them.

Owns: the calls `learn`, consent, the schedule of runs. Refuses to own: votes and receipts (`data/feedback`), and runs
(`lab/learning`).

Where to add what:

- A field of a vote: `Feedback` in data/feedback/votes.py, its column in control/feedback/tables, data/feedback/sql.py.
- Another API that takes votes: a function to `Feedback` in data/feedback/votes.py, its route in
  control/faces/feedback.py.
"""
