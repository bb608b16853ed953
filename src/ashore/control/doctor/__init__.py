"""What is wrong with this server, why, and what to do: readings, rules, findings, and changes that can be undone.

Owns: what is measured (`readings.py`), how (`probes/`), what each figure means (`rules.toml`), the safe changes and
their undo (`changes.py`), the support bundle. Refuses to own: how a server mends itself. A host that hangs is replaced
by the supervisor, and a cache that is gone is left out by the workers; the doctor says what does not mend itself.

A look costs some hundred file reads and two questions to the server. It needs no key and no server: it reads what the
owner of the home may read.
"""

from ashore.control.doctor.calls import Looks
from ashore.control.doctor.judge import diagnose
from ashore.control.doctor.model import Diagnosis, Finding
from ashore.control.doctor.readings import Readings
from ashore.control.doctor.rule import load_rules
