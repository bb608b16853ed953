"""Masking: detects personal data in texts, hides it from the model and restores it in answers.

Owns: detectors, the policy by tenant and alias, placeholders and pseudonyms, the way back through a stream. Refuses to
own: requests and their protocols (`data/path` walks through them), the audit, what is cached.

Where to add what:

- A kind of personal data: a finder here, called in data/privacy/detect.py (raise its `VERSION`); its name in
  data/privacy/model.py (`KINDS`, whose order is its rank, and `IDENTIFIERS`, or it is allowed by default); a pseudonym
  in data/privacy/pseudonyms.py; data/privacy/outlet.py where it holds neither digits nor `@`; rows in
  tests/unit/privacy/test_privacy_detect.py.
- A form or a trap of the masking benchmark: benchmarks/masking/forms.py or traps.py. A sentence: a module
  `templates_*` there.
"""

from ashore.data.privacy.custom import Words, check_policy, lowered
from ashore.data.privacy.desk import PrivacyDesk, read_secret
from ashore.data.privacy.detect import Detectors
from ashore.data.privacy.folding import Places, fold, is_unseen
from ashore.data.privacy.model import KINDS, Entity, Finder
from ashore.data.privacy.outlet import AnswerGuard, Outlet, StandIns
from ashore.data.privacy.policy import (
    EVERY,
    PROMPT_DEFAULTS,
    Dictionary,
    Expression,
    LabelMode,
    PrivacyPolicy,
    PrivacyRoute,
    Rules,
    hidden_kinds,
    rules_for,
)
from ashore.data.privacy.service import BEHIND_CHARS, PIECE_CHARS, InForce, Privacy, finder_of
from ashore.data.privacy.sql import POLICY_EPOCH, load_policy
from ashore.data.privacy.table import Table
