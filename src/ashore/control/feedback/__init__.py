"""Learning: feedback on answers, and models that improve from it.

Owns: receipts of answers, votes and corrections, consent by tenant, data sets made of them, held votes, runs that train
an adapter, and the verdict on it. Refuses: to learn from a text that was not masked, from a tenant that did not
consent, or from a person who did not get the answer; to promote a model that did not pass the gate; to train in a
process that serves requests.

Where to add what:

- A field of a vote: `Feedback` in data/feedback/votes.py, its column in learning/tables, data/feedback/sql.py.
- Another API that takes votes: a function to `Feedback` in data/feedback/votes.py, its route in
  control/faces/feedback.py.
"""
