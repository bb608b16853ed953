"""Votes and their receipts: what a worker writes when a client judges an answer, and the rows that learning reads.

Owns: receipts, votes and corrections, consent by tenant, data sets made of them, held votes and runs, as rows. Refuses:
to learn from a text that was not masked, from a tenant that did not consent, or from a person who did not get the
answer; to train.
"""

from ashore.data.feedback.receipts import Receipts
from ashore.data.feedback.section import LearningSection
from ashore.data.feedback.votes import Feedback, Score, feedback_of_score
