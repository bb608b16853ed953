"""Learning: feedback on answers, and models that improve from it.

Owns: receipts of answers, votes and corrections, consent by tenant, data sets made of them, held votes, runs that train
an adapter, and the verdict on it. Refuses: to learn from a text that was not masked, from a tenant that did not
consent, or from a person who did not get the answer; to promote a model that did not pass the gate; to train in a
process that serves requests.

Where to add what:

- A field of a vote: `Feedback` in learning/votes.py, its column in learning/tables, learning/sql.py.
- Another API that takes votes: a function to `Feedback` in learning/votes.py, its route in control/feedback.py.
"""

from ashore.learning.receipts import Receipts
from ashore.learning.section import LearningSection
from ashore.learning.service import FeedbackService, Given
from ashore.learning.votes import Feedback, Score, feedback_of_score
