"""Votes and their receipts: what a worker writes when a client judges an answer, and the rows that learning reads.

Owns: votes, consent, sealed texts, datasets and runs as rows. Refuses: to train.
"""

from ashore.data.feedback.receipts import Receipts
from ashore.data.feedback.section import LearningSection
from ashore.data.feedback.service import FeedbackService, Given
from ashore.data.feedback.votes import Feedback, Score, feedback_of_score
