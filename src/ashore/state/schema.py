"""The tables, and the steps that bring an older database to them.

A step never changes once it has been released; a change of the tables is a new step at the end of `MIGRATIONS`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

Migration = Sequence[str]
"""SQL statements that bring version n to version n + 1; all of them run in one transaction."""

MIGRATIONS: Final[tuple[Migration, ...]] = (
    (
        """
        CREATE TABLE access_key (
            key_id      TEXT PRIMARY KEY,
            digest      TEXT NOT NULL UNIQUE,
            principal   TEXT NOT NULL,
            tenant      TEXT NOT NULL,
            scopes      TEXT NOT NULL,
            created_s   INTEGER NOT NULL,
            revoked_s   INTEGER
        )
        """,
        """
        CREATE TABLE tuning (
            model         TEXT NOT NULL,
            goal          TEXT NOT NULL,
            choice        TEXT NOT NULL,
            report        TEXT NOT NULL,
            measured_at_s INTEGER NOT NULL,
            PRIMARY KEY (model, goal)
        )
        """,
    ),
    ("CREATE TABLE epoch (kind TEXT PRIMARY KEY, value INTEGER NOT NULL)",),
    (
        "CREATE TABLE secret (name TEXT PRIMARY KEY, value TEXT NOT NULL)",
        """
        CREATE TABLE curated_answer (
            tenant      TEXT NOT NULL,
            alias       TEXT NOT NULL,
            plain       TEXT NOT NULL,
            question    TEXT NOT NULL,
            answer      TEXT NOT NULL,
            pinned      INTEGER NOT NULL,
            created_s   BIGINT NOT NULL,
            expires_s   BIGINT,
            PRIMARY KEY (tenant, alias, plain)
        )
        """,
    ),
    (
        """
        CREATE TABLE job (
            job_id             TEXT PRIMARY KEY,
            kind               TEXT NOT NULL,
            tenant             TEXT NOT NULL,
            principal          TEXT NOT NULL,
            state              TEXT NOT NULL,
            priority           INTEGER NOT NULL,
            created_ms         INTEGER NOT NULL,
            not_before_ms      INTEGER NOT NULL,
            deadline_ms        INTEGER,
            max_attempts       INTEGER NOT NULL,
            ttl_ms             INTEGER NOT NULL,
            cancel_mode        TEXT NOT NULL,
            idempotency_key    TEXT NOT NULL,
            webhook            TEXT NOT NULL,
            parent_id          TEXT NOT NULL,
            item               INTEGER NOT NULL,
            attempts           INTEGER NOT NULL,
            lease_number       INTEGER NOT NULL,
            lease_until_ms     INTEGER NOT NULL,
            owner              TEXT NOT NULL,
            cancel_requested   INTEGER NOT NULL,
            progress           TEXT NOT NULL,
            error_code         TEXT NOT NULL,
            error_message      TEXT NOT NULL,
            started_ms         INTEGER,
            finished_ms        INTEGER,
            expires_ms         INTEGER,
            children_total     INTEGER NOT NULL,
            children_succeeded INTEGER NOT NULL,
            children_failed    INTEGER NOT NULL
        )
        """,
        "CREATE INDEX job_ready ON job (state, tenant, priority, created_ms, job_id)",
        "CREATE INDEX job_lease ON job (state, lease_until_ms)",
        "CREATE INDEX job_deadline ON job (deadline_ms) WHERE deadline_ms IS NOT NULL",
        "CREATE INDEX job_expiry ON job (expires_ms) WHERE expires_ms IS NOT NULL",
        "CREATE INDEX job_child ON job (parent_id, item) WHERE parent_id <> ''",
        "CREATE INDEX job_age ON job (tenant, created_ms, job_id)",
        "CREATE UNIQUE INDEX job_once ON job (tenant, kind, idempotency_key) WHERE idempotency_key <> ''",
        "CREATE TABLE job_body (job_id TEXT PRIMARY KEY, payload BLOB NOT NULL, result BLOB)",
        "CREATE TABLE job_turn (tenant TEXT PRIMARY KEY, finish REAL NOT NULL)",
        """
        CREATE TABLE stored_file (
            file_id    TEXT PRIMARY KEY,
            tenant     TEXT NOT NULL,
            filename   TEXT NOT NULL,
            purpose    TEXT NOT NULL,
            num_bytes  INTEGER NOT NULL,
            created_ms INTEGER NOT NULL,
            expires_ms INTEGER,
            complete   INTEGER NOT NULL
        )
        """,
        "CREATE INDEX stored_file_age ON stored_file (tenant, created_ms, file_id)",
        """
        CREATE TABLE file_piece (
            file_id TEXT NOT NULL,
            number  INTEGER NOT NULL,
            piece   BLOB NOT NULL,
            PRIMARY KEY (file_id, number)
        )
        """,
    ),
    ("ALTER TABLE job ADD COLUMN takeovers INTEGER NOT NULL DEFAULT 0",),
    (
        """
        CREATE TABLE privacy_policy (
            name       TEXT PRIMARY KEY,
            document   TEXT NOT NULL,
            version    INTEGER NOT NULL,
            changed_by TEXT NOT NULL,
            changed_s  BIGINT NOT NULL
        )
        """,
    ),
    (
        *(
            f"ALTER TABLE access_key ADD COLUMN {column}"
            for column in (
                "prefix TEXT NOT NULL DEFAULT ''",
                "title TEXT NOT NULL DEFAULT ''",
                "owner_kind TEXT NOT NULL DEFAULT 'user'",
                "models TEXT NOT NULL DEFAULT ''",
                "networks TEXT NOT NULL DEFAULT ''",
                "created_by TEXT NOT NULL DEFAULT ''",
                "expires_s INTEGER",
                "last_used_s INTEGER",
                "changed INTEGER NOT NULL DEFAULT 0",
            )
        ),
        "CREATE INDEX access_key_changed ON access_key (changed)",
        "CREATE INDEX access_key_owner ON access_key (principal, key_id)",
        "CREATE INDEX access_key_expiry ON access_key (expires_s) WHERE expires_s IS NOT NULL AND revoked_s IS NULL",
        """
        CREATE TABLE access_tenant (
            name      TEXT PRIMARY KEY,
            title     TEXT NOT NULL,
            disabled  INTEGER NOT NULL,
            created_s INTEGER NOT NULL
        )
        """,
        "INSERT INTO access_tenant SELECT DISTINCT tenant, '', 0, 0 FROM access_key WHERE tenant <> 'default'",
        "INSERT INTO access_tenant VALUES ('default', '', 0, 0)",
        """
        CREATE TABLE access_account (
            id        TEXT PRIMARY KEY,
            kind      TEXT NOT NULL,
            tenant    TEXT NOT NULL,
            title     TEXT NOT NULL,
            groups    TEXT NOT NULL,
            disabled  INTEGER NOT NULL,
            removed   INTEGER NOT NULL,
            created_s INTEGER NOT NULL,
            changed   INTEGER NOT NULL
        )
        """,
        "CREATE INDEX access_account_changed ON access_account (changed)",
        "CREATE TABLE access_group (name TEXT PRIMARY KEY, title TEXT NOT NULL, created_s INTEGER NOT NULL)",
        """
        CREATE TABLE access_policy (
            version   INTEGER PRIMARY KEY,
            author    TEXT NOT NULL,
            comment   TEXT NOT NULL,
            document  TEXT NOT NULL,
            created_s INTEGER NOT NULL
        )
        """,
        """
        CREATE TABLE access_consent (
            subject   TEXT NOT NULL,
            principal TEXT NOT NULL,
            created_s INTEGER NOT NULL,
            PRIMARY KEY (subject, principal)
        )
        """,
    ),
    (
        """
        CREATE TABLE budget_rule (
            rule_id     TEXT PRIMARY KEY,
            kind        TEXT NOT NULL,
            time_window TEXT NOT NULL,
            cap         INTEGER NOT NULL,
            api_key     TEXT NOT NULL,
            principal   TEXT NOT NULL,
            tenant      TEXT NOT NULL,
            model       TEXT NOT NULL,
            offset_min  INTEGER NOT NULL
        )
        """,
        """
        CREATE TABLE budget_count (
            rule_id   TEXT NOT NULL,
            subject   TEXT NOT NULL,
            starts_ms INTEGER NOT NULL,
            ends_ms   INTEGER NOT NULL,
            source    TEXT NOT NULL,
            settled   INTEGER NOT NULL,
            opened    INTEGER NOT NULL,
            granted   INTEGER NOT NULL DEFAULT 0,
            PRIMARY KEY (rule_id, subject, starts_ms, source)
        )
        """,
        "CREATE INDEX budget_count_end ON budget_count (ends_ms)",
        "CREATE TABLE budget_source (source TEXT PRIMARY KEY, expires_ms INTEGER NOT NULL)",
        """
        CREATE TABLE usage_day (
            day               TEXT NOT NULL,
            tenant            TEXT NOT NULL,
            principal         TEXT NOT NULL,
            model             TEXT NOT NULL,
            source            TEXT NOT NULL,
            requests          INTEGER NOT NULL,
            hits              INTEGER NOT NULL,
            prompt_tokens     INTEGER NOT NULL,
            completion_tokens INTEGER NOT NULL,
            cached_tokens     INTEGER NOT NULL,
            refused           INTEGER NOT NULL,
            PRIMARY KEY (day, tenant, principal, model, source)
        )
        """,
    ),
    (
        """
        CREATE TABLE budget_want (
            rule_id   TEXT NOT NULL,
            subject   TEXT NOT NULL,
            starts_ms INTEGER NOT NULL,
            part      INTEGER NOT NULL,
            ends_ms   INTEGER NOT NULL,
            source    TEXT NOT NULL,
            asked_ms  INTEGER NOT NULL,
            PRIMARY KEY (rule_id, subject, starts_ms, source)
        )
        """,
    ),
    (
        """
        CREATE TABLE audit_subject (
            key_id    TEXT PRIMARY KEY,
            subject   TEXT NOT NULL,
            secret    TEXT NOT NULL,
            created_s BIGINT NOT NULL,
            erased_s  BIGINT
        )
        """,
        "CREATE UNIQUE INDEX audit_subject_live ON audit_subject (subject) WHERE erased_s IS NULL",
    ),
    (
        """
        CREATE TABLE release (
            name     TEXT PRIMARY KEY,
            alias    TEXT NOT NULL,
            document TEXT NOT NULL,
            course   TEXT NOT NULL
        )
        """,
        "CREATE TABLE release_alias (name TEXT PRIMARY KEY, document TEXT NOT NULL, version INTEGER NOT NULL)",
        """
        CREATE TABLE release_event (
            seq      BIGINT PRIMARY KEY,
            at_ms    BIGINT NOT NULL,
            alias    TEXT NOT NULL,
            release  TEXT NOT NULL,
            verb     TEXT NOT NULL,
            state    TEXT NOT NULL,
            actor    TEXT NOT NULL,
            why      TEXT NOT NULL,
            evidence TEXT NOT NULL
        )
        """,
        "CREATE INDEX release_event_alias ON release_event (alias, seq)",
        "CREATE INDEX release_event_release ON release_event (release, seq)",
        """
        CREATE TABLE release_evidence (
            release TEXT NOT NULL,
            stage   TEXT NOT NULL,
            name    TEXT NOT NULL,
            slice   TEXT NOT NULL,
            tally   TEXT NOT NULL,
            PRIMARY KEY (release, stage, name, slice)
        )
        """,
        """
        CREATE TABLE release_pair (
            release  TEXT NOT NULL,
            pair_id  TEXT NOT NULL,
            distance DOUBLE PRECISION NOT NULL,
            document TEXT NOT NULL,
            PRIMARY KEY (release, pair_id)
        )
        """,
    ),
    (
        """
        CREATE TABLE release_burn (
            release   TEXT NOT NULL,
            objective TEXT NOT NULL,
            at_s      BIGINT NOT NULL,
            total     BIGINT NOT NULL,
            bad       BIGINT NOT NULL,
            PRIMARY KEY (release, objective, at_s)
        )
        """,
    ),
    ("ALTER TABLE budget_count ADD COLUMN answered_ms BIGINT NOT NULL DEFAULT 0",),
    (
        """
        CREATE TABLE release_given (
            release  TEXT NOT NULL,
            level    INTEGER NOT NULL,
            at_s     BIGINT NOT NULL,
            document TEXT NOT NULL,
            PRIMARY KEY (release, level)
        )
        """,
    ),
    (  # jobs and files belong to an account: what stands before the # of the principal that a job runs for
        "ALTER TABLE job ADD COLUMN account TEXT NOT NULL DEFAULT ''",
        "ALTER TABLE job ADD COLUMN models TEXT NOT NULL DEFAULT '*'",
        "ALTER TABLE stored_file ADD COLUMN account TEXT NOT NULL DEFAULT ''",
        "ALTER TABLE stored_file ADD COLUMN models TEXT NOT NULL DEFAULT '*'",
        """
        UPDATE job SET account = CASE WHEN replace(principal, '#', '') = principal THEN principal
            ELSE rtrim(rtrim(principal, replace(principal, '#', '')), '#') END
        """,
        """
        UPDATE stored_file SET account = COALESCE((
            SELECT job.account FROM job WHERE job.tenant = stored_file.tenant AND stored_file.purpose = 'batch_output'
            AND stored_file.filename IN (job.job_id || '_output.jsonl', job.job_id || '_error.jsonl')
        ), '')
        """,
        """
        UPDATE stored_file SET account = COALESCE((
            SELECT MIN(access_key.principal) FROM access_key WHERE access_key.tenant = stored_file.tenant
            GROUP BY access_key.tenant HAVING COUNT(DISTINCT access_key.principal) = 1
        ), '') WHERE account = ''
        """,
        "DROP INDEX job_once",
        "CREATE UNIQUE INDEX job_once ON job (tenant, account, kind, idempotency_key) WHERE idempotency_key <> ''",
        "CREATE INDEX job_account_age ON job (tenant, account, created_ms, job_id)",
        "CREATE INDEX stored_file_account_age ON stored_file (tenant, account, created_ms, file_id)",
    ),
    (  # who goes next, whose lease ran out, and how many a tenant has: however many lines of a batch wait
        "DROP INDEX job_ready",
        "DROP INDEX job_lease",
        """
        CREATE INDEX job_waiting ON job (kind, tenant, priority DESC, created_ms, job_id, not_before_ms)
            WHERE state = 'queued'
        """,
        "CREATE INDEX job_running ON job (lease_until_ms) WHERE state = 'running'",
        "CREATE INDEX job_open ON job (tenant) WHERE parent_id = '' AND state IN ('queued', 'running')",
    ),
)

SCHEMA_VERSION: Final = len(MIGRATIONS)
