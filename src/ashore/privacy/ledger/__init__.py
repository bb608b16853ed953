"""Differential privacy that adds up: what may be learnt of a dataset's units, what was, and what is left.

A budget (epsilon, delta) is granted for a dataset of a tenant. Questions with noise and private training runs are
reserved in it before the first noisy bit is drawn; what does not fit is refused.
"""

from ashore.privacy.ledger.accountant import training_epsilon, training_noise
from ashore.privacy.ledger.model import Budget, Spend, Standing
from ashore.privacy.ledger.service import Ledger

__all__ = ["Budget", "Ledger", "Spend", "Standing", "training_epsilon", "training_noise"]
