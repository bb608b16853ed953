"""Masking: detects personal data in texts, hides it from the model and restores it in answers.

Owns: detectors, the policy by tenant and alias, placeholders and pseudonyms, the way back through a stream. Refuses to
own: requests and their protocols (`serving` walks through them), the audit, what is cached.

Where to add what:

- A kind of personal data: a finder here, called in privacy/detect.py (raise its `VERSION`); its name in
  privacy/model.py (`KINDS`, whose order is its rank, and `IDENTIFIERS`, or it is allowed by default); a pseudonym in
  privacy/pseudonyms.py; privacy/outlet.py where it holds neither digits nor `@`; rows in
  tests/unit/privacy/test_privacy_detect.py.
- A form or a trap of the masking benchmark: benchmarks/masking/forms.py or traps.py. A sentence: a module
  `templates_*` there.
"""

from ashore.privacy.custom import check_policy
from ashore.privacy.desk import PrivacyDesk, read_secret
from ashore.privacy.detect import Detectors
from ashore.privacy.matching import StandIns
from ashore.privacy.model import KINDS, Entity, Finder
from ashore.privacy.outlet import AnswerGuard, Outlet
from ashore.privacy.policy import (
    PROMPT_DEFAULTS,
    Dictionary,
    Expression,
    LabelMode,
    PrivacyPolicy,
    PrivacyRoute,
    rules_for,
)
from ashore.privacy.service import InForce, Privacy, finder_of
from ashore.privacy.sql import POLICY_EPOCH, load_policy
from ashore.privacy.table import Table
