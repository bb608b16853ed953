"""Differential privacy with a ledger: the privacy budget of a dataset's units, its spending, and the rest.

A budget (epsilon, delta) is granted for a dataset of a tenant. Questions with noise and private training runs are
reserved in it before the first noisy bit is drawn; whatever exceeds it is refused.
"""

from ashore.control.ledger.accountant import training_epsilon, training_noise
from ashore.control.ledger.service import Ledger
