"""The only room that knows concrete adapters: it builds objects and returns them, one file for each subject.

Only the command line and the entry points of processes call it. Everything heavy is imported inside the function that
needs it.
"""

from ashore.cli.bootstrap.backups import (
    backup_contents,
    backup_schedule,
    manifests_in_use,
    open_backup,
    refuse_half_backups,
    restore_home,
)
from ashore.cli.bootstrap.operations.learning import open_learning
from ashore.cli.bootstrap.optimizing import open_subject, plan_sft
from ashore.cli.bootstrap.plans import find_programs, gather_facts, served_here, server_command_lines, tuned_choices
from ashore.cli.bootstrap.privacyledger import open_ledger
from ashore.cli.bootstrap.records import audit_opener, command_recorder, owned_state, supervisor_recorder
from ashore.cli.bootstrap.serving import build_workshop, open_privacy, release_keeper, releases_of_home
from ashore.cli.bootstrap.state import as_served, begin_anew, hold_state_secrets, open_state, rekey, shared_name
from ashore.cli.bootstrap.stores import (
    build_store,
    key_keeper,
    open_key_source,
    open_model_files,
    sealing_notes,
    stored_files,
    text_of,
)
from ashore.cli.bootstrap.variants import make_ready, prepare_variant, quantiser
