"""Every error that ashore raises on purpose, grouped by who must act.

    AshoreError                     code, http_status, exit_code, retryable, hint
      UserError                     the caller changes the request         exit 2
        InvalidRequest  400           UnknownField 400   UnsupportedByEngine 400   InvalidGrammar 400
        ContextTooLong  400           PayloadTooLarge 413  HeadersTooLarge 431   RequestTimeout 408
        NotFound        404           UnknownModel 404   UnknownVariant 404   UnknownRoute 404   MethodNotAllowed 405
        InvalidSpec     400           UnsafeWeights 400  UnsupportedModel 400  LicenceNotAccepted 403   Conflict 409
        TrainingDiverged 400          BrokenData 400   RecoveryKeyWrong 400   ContentBlocked 400
      DeniedError                   an administrator grants the right      exit 5
        Unauthenticated 401           PermissionDenied 403     TooManyAttempts 429   PersonalDataBlocked 403
        PrivacyBudgetSpent 403
      CapacityError                 wait, or add machines                  exit 3
        Overloaded      429           DeadlineExceeded 504   KvCacheExhausted 503   Draining 503   DiskFull 507
        Preempted       503           MemoryFull 507         BudgetExceeded 429
      EnvironmentFault              the operator mends the machine         exit 4
        MissingExtra    500           PortTaken 500   HomeBusy 500   HomeTooNew 500   SourceUnreachable 502
        HomeNotOurs     500           StateLost 500          StateUnavailable 503
        CorruptBlob     500           EngineFailed 502   HostDied 503   WorkerDied 503  NotReady 503   RemoteRefused 502
        SealingKeyMissing 500         KeyServiceUnreachable 502              KillsHosts 500            WeightsAway 503
        AuditUnavailable 503  TamperedAudit 500              SwitchedOff 404
        NodeUnavailable 503   TooFewNodes 503   BackupDamaged 500
      Bug             500           our invariant broke; report it         exit 70

A message says what, which object, what was seen and what was expected; `hint` says the next action. `code` is stable:
it appears in JSON, logs and documentation. Foreign errors are translated at the seam of each adapter, with `from`.

The docstring of a class has two paragraphs: what the error means, and what to do about it. `docs/reference/errors.md`
is written from them.

To add an error, write a class with a `code` of its own in the group of the person who must act, name it in the tree
above, and run `make docs`. HTTP takes its `http_status`, gRPC the status that belongs to that (`CODE_NAMES` in
`data/grpc/status.py`), the command line its `exit_code`. From another process it comes back by its code
(`error_class`):
over an engine's socket by `data/engines/failures.py`, from a server by `raise_refusal` in `cli/refusals.py`.
Whether a job tries again says `data/jobs/request.py`.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import ClassVar, TypedDict, Unpack


class Common(TypedDict, total=False):
    """What every error takes, as `AshoreError` describes it."""

    hint: str
    param: str | None
    retry_after_s: float | None


class AshoreError(Exception):
    """Base of every error that ashore raises on purpose."""

    code: ClassVar[str] = "error"
    http_status: ClassVar[int] = 500
    exit_code: ClassVar[int] = 70
    retryable: ClassVar[bool] = False

    def __init__(
        self,
        message: str | None = None,
        *,
        hint: str = "",
        param: str | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        """Make the error.

        Args:
            message: What happened, to which object, what was seen, what was expected. Default: `meaning()`.
            hint: The next action, for the person who must act.
            param: Name of the request field at fault, in the caller's own words (`messages[0].role`).
            retry_after_s: Seconds after which a retry makes sense, where we know.
        """
        self.message = message or self.meaning()
        super().__init__(self.message)
        self.hint = hint
        self.param = param
        self.retry_after_s = retry_after_s

    @property
    def in_one_line(self) -> str:
        """What happened, and the next action behind it."""
        return f"{self.message}; {self.hint}" if self.hint else self.message

    @classmethod
    def meaning(cls) -> str:
        """Return what it means: the first paragraph of the class docstring."""
        return " ".join((cls.__doc__ or "").partition("\n\n")[0].split())

    @classmethod
    def remedy(cls) -> str:
        """Return what to do about it: the second paragraph."""
        return " ".join((cls.__doc__ or "").partition("\n\n")[2].split())


class UserError(AshoreError):
    """The request cannot be served as it stands.

    Change the request as the message says, then send it again.
    """

    code = "invalid_request"
    http_status = 400
    exit_code = 2


class InvalidRequest(UserError):
    """The request is malformed.

    Correct the field that `param` names; the message says what is expected.
    """


class UnknownField(UserError):
    """The request has a field that ashore does not know.

    Remove the field, or correct its name; `/openapi.json` lists the fields of each route.
    `[http.unknown_fields]` can leave such fields out instead.
    """

    code = "unknown_field"


class UnsupportedByEngine(UserError):
    """The engine behind this model cannot do what was asked.

    Leave the feature out, or serve the model with an engine that has it; the table of fields in http.md says which.
    """

    code = "unsupported_by_engine"


class InvalidGrammar(UserError):
    """The JSON schema or grammar cannot be compiled.

    Simplify the schema at the place that the message names.
    """

    code = "invalid_grammar"


class ContextTooLong(UserError):
    """The prompt leaves no room for an answer in the model's context.

    Shorten the prompt; the message has both numbers.
    """

    code = "context_length_exceeded"


class PayloadTooLarge(UserError):
    """The request body is larger than this server accepts.

    Send less in one request, or ask the operator to raise `[edge] max_body_bytes`.
    """

    code = "payload_too_large"
    http_status = 413


class HeadersTooLarge(UserError):
    """The request headers are larger than this server accepts.

    Send fewer or shorter headers; cookies are the usual cause.
    """

    code = "headers_too_large"
    http_status = 431


class RequestTimeout(UserError):
    """The client took too long to send its request.

    Send the whole request without pauses; look for a slow proxy on the way.
    """

    code = "request_timeout"
    http_status = 408


class NotFound(UserError):
    """The named object does not exist.

    Check the name. The `list` command of its noun shows the existing ones.
    """

    code = "not_found"
    http_status = 404


class UnknownModel(NotFound):
    """No model has this name.

    Check the name against `GET /v1/models`, or add the model to ashore.toml.
    """

    code = "model_not_found"


class UnknownVariant(NotFound):
    """The model has no such variant.

    `ashore model show NAME` lists the variants; `ashore optimize quantize` makes one.
    """

    code = "variant_not_found"


class UnknownRoute(NotFound):
    """This path does not exist.

    Check the path; `/openapi.json` lists every route.
    """

    code = "unknown_route"


class MethodNotAllowed(UserError):
    """The path exists, but not with this method.

    Use a method that the `Allow` header names; `/openapi.json` lists them for each path.
    """

    code = "method_not_allowed"
    http_status = 405

    def __init__(
        self,
        message: str | None = None,
        *,
        allowed: Sequence[str] = (),
        **common: Unpack[Common],
    ) -> None:
        """Make the error. `allowed`: the methods that the path takes."""
        super().__init__(message, **common)
        self.allowed = tuple(allowed)


class InvalidSpec(UserError):
    """ashore.toml or a setting is wrong.

    Correct the key that the message names; ashore-toml.md says what each key takes.
    """

    code = "invalid_spec"


class UnsafeWeights(UserError):
    """The weights are in a form that can run code (pickle); ashore reads safetensors and GGUF.

    Convert the weights to safetensors, or use a repository that has them.
    """

    code = "unsafe_weights"


class UnsupportedModel(UserError):
    """No engine here runs this architecture or file.

    Use a model whose architecture an engine runs; `ashore engine list` shows the engines.
    """

    code = "unsupported_model"


class BrokenData(UserError):
    """A line of a data file does not have the expected form.

    Correct the line that the message names.
    """

    code = "broken_data"


class TrainingDiverged(UserError):
    """The loss of a training run is no longer a number.

    Train again with a lower learning rate, or check the data for broken examples.
    """

    code = "training_diverged"


class LicenceNotAccepted(UserError):
    """The model's licence must be accepted first.

    Read the licence, then pull the model with `--accept-licence`.
    """

    code = "licence_not_accepted"
    http_status = 403


class Conflict(UserError):
    """The object already exists, or was changed since it was read.

    Read the object again, then decide whether the change still applies.
    """

    code = "conflict"
    http_status = 409


class RecoveryKeyWrong(UserError):
    """This is not the recovery key of this backup.

    Give the newest recovery key of this backup; after `ashore backup rekey` older ones no longer work.
    """

    code = "recovery_key_wrong"


class ContentBlocked(UserError):
    """A guard list blocks a word in this prompt or in its answer.

    Change the text. An administrator sees the lists with `ashore guard list`.
    """

    code = "content_filter"

    def __init__(
        self,
        message: str | None = None,
        *,
        found: Mapping[str, int] | None = None,
        **common: Unpack[Common],
    ) -> None:
        """Make the error. `found`: how many words of which list, for the audit log."""
        super().__init__(message, **common)
        self.found = found or {}


class DeniedError(AshoreError):
    """Not allowed.

    Ask an administrator for the right.
    """

    code = "permission_denied"
    http_status = 403
    exit_code = 5


class Unauthenticated(DeniedError):
    """No valid key was given.

    Send a valid key as `authorization: Bearer KEY`; `ashore access key create` makes one.
    """

    code = "invalid_api_key"
    http_status = 401

    def __init__(
        self,
        message: str | None = None,
        *,
        guess: bool = False,
        **common: Unpack[Common],
    ) -> None:
        """Make the error; `guess` says that nobody was ever given such a key, so that somebody may be guessing."""
        super().__init__(message, **common)
        self.guess = guess


class PermissionDenied(DeniedError):
    """This key may not do that.

    Ask an administrator for a role with the action that the message names; `ashore access can --explain` shows the
    rule.
    """

    def __init__(
        self,
        message: str | None = None,
        *,
        action: str = "",
        resource: str = "",
        rule: str = "",
        **common: Unpack[Common],
    ) -> None:
        """Make the error; `action`, `resource` and `rule` are what the authority decided, where it did."""
        super().__init__(message, **common)
        self.action = action
        self.resource = resource
        self.rule = rule


class TooManyAttempts(DeniedError):
    """Too many wrong keys came from this address.

    Correct the key, then wait as long as `retry-after` says.
    """

    code = "too_many_attempts"
    http_status = 429


class PersonalDataBlocked(DeniedError):
    """The privacy policy blocks personal data in this text.

    Remove the kinds of personal data that the message names, or change the policy with `ashore privacy policy set`.
    """

    code = "personal_data_blocked"


class PrivacyBudgetSpent(DeniedError):
    """The privacy budget of this dataset has too little left.

    Ask with more noise (a smaller epsilon), or have a security officer grant more with `ashore privacy budget grant`.
    """

    code = "privacy_budget_spent"


class CapacityError(AshoreError):
    """There is no capacity for this now.

    Wait, then send it again; or add machines.
    """

    code = "overloaded"
    http_status = 503
    exit_code = 3
    retryable = True


class Overloaded(CapacityError):
    """The queue is full.

    Wait as long as `retry-after` says, or allow deferral with `x-ashore-defer: allow`.
    """

    http_status = 429


class DeadlineExceeded(CapacityError):
    """The deadline of the request passed before its answer was complete.

    Allow more time with `x-ashore-deadline-ms`, ask for fewer tokens, or add replicas.
    """

    code = "deadline_exceeded"
    http_status = 504


class KvCacheExhausted(CapacityError):
    """The request needs more KV cache than this replica has.

    Serve fewer models or replicas, or a smaller variant; or use a machine with more memory.
    """

    code = "kv_cache_exhausted"


class Draining(CapacityError):
    """The server is stopping and takes no new requests.

    Send it to another machine, or again once the server is back.
    """

    code = "draining"


class Preempted(CapacityError):
    """A line of a batch gave its slot to an interactive request.

    Do nothing: the line continues by itself when there is capacity.
    """

    code = "preempted"


class BudgetExceeded(CapacityError):
    """A budget does not allow this request now.

    Wait for the next window of the budget, or ask an administrator to raise it with `ashore access budget set`.
    """

    code = "budget_exceeded"
    http_status = 429
    retryable = False

    def __init__(
        self,
        message: str | None = None,
        *,
        facts: tuple[tuple[str, str], ...] = (),
        **common: Unpack[Common],
    ) -> None:
        """Make the error.

        Args:
            message: Which budget, its window and limit, what is left and what was needed.
            facts: The same as pairs of names and values, for headers and metadata.
            common: `retry_after_s` is when the window ends; None where waiting does not help.
        """
        super().__init__(message, **common)
        self.facts = facts


class DiskFull(CapacityError):
    """There is not enough space on the disk.

    Free space on the disk that the message names; `ashore model gc` removes what no model needs.
    """

    code = "disk_full"
    http_status = 507


class MemoryFull(CapacityError):
    """There is not enough memory on this machine.

    Serve fewer or smaller models, or give the machine more memory.
    """

    code = "memory_full"
    http_status = 507


class EnvironmentFault(AshoreError):
    """Something is wrong on this machine, or on a machine that it depends on.

    Ask the operator to fix what the message names.
    """

    code = "environment"
    http_status = 500
    exit_code = 4


class MissingExtra(EnvironmentFault):
    """An optional part of ashore is needed and is not installed.

    Install the extra with the command that the hint shows.
    """

    code = "missing_extra"


class PortTaken(EnvironmentFault):
    """Another program is listening on this port.

    Stop the other program, or choose another port with `--port`.
    """

    code = "port_taken"


class HomeBusy(EnvironmentFault):
    """Another ashore process is using this home.

    Stop the other process, or use another home with `ASHORE_HOME`.
    """

    code = "home_busy"


class HomeTooNew(EnvironmentFault):
    """This home was written by a newer ashore.

    Install the version of ashore that wrote the home, or a newer one.
    """

    code = "home_too_new"


class HomeNotOurs(EnvironmentFault):
    """This home belongs to another user.

    Run the command as the owner of the home, or use another home with `ASHORE_HOME`.
    """

    code = "home_not_ours"


class StateLost(EnvironmentFault):
    """The state of this home is missing, and the home is not new.

    Restore it with `ashore backup restore`, or start with an empty one: `ashore up --new-state`.
    """

    code = "state_lost"


class StateUnavailable(EnvironmentFault):
    """The state database cannot be reached or used.

    Try again in a moment. The server's log has the reason: see that the database runs, and that ashore may use it.
    """

    code = "state_unavailable"
    http_status = 503
    retryable = True


class SourceUnreachable(EnvironmentFault):
    """A model source could not be reached.

    Check the network and the proxy, or set a mirror with `hf_endpoint` or `ms_endpoint`.
    """

    code = "source_unreachable"
    http_status = 502
    retryable = True


class RemoteRefused(EnvironmentFault):
    """A remote server refused the request.

    Check the address and the credentials for that server.
    """

    code = "remote_refused"
    http_status = 502


class CorruptBlob(EnvironmentFault):
    """A stored file has changed since it was written. Never retried, never ignored.

    Pull the model again, or restore it from a backup; then test the disk.
    """

    code = "corrupt_blob"


class WeightsAway(EnvironmentFault):
    """The weights of a model are in a bucket, and not on this disk.

    Run `ashore model fetch MODEL`, or serve the model with `load = "demand"`: the next request brings them back.
    """

    code = "weights_away"
    http_status = 503


class SealingKeyMissing(EnvironmentFault):
    """Sealed data cannot be opened because its key was not found.

    Put the key back at the place that `[sealing] key` names.
    """

    code = "sealing_key_missing"


class KeyServiceUnreachable(EnvironmentFault):
    """The service that keeps the sealing keys could not be reached.

    Check the address and the token of the key service, and that it is running.
    """

    code = "key_service_unreachable"
    http_status = 502
    retryable = True


class EngineFailed(EnvironmentFault):
    """The engine could not run this request.

    Read the log of the engine host in `logs/` of the home; the same request may fail again.
    """

    code = "engine_failed"
    http_status = 502


class HostDied(EnvironmentFault):
    """The engine host died while it worked on this request.

    Send it again. If it recurs, read the log of the engine host in `logs/` of the home.
    """

    code = "host_died"
    http_status = 503
    retryable = True
    deaths: int = 0
    """Hosts that died while they worked on the request, where it is handed on."""
    taken: bool = True
    """False: the request never reached the host, which cannot have died of it."""


class KillsHosts(EnvironmentFault):
    """Two engine hosts died while they worked on this request, so it is not sent to a third.

    Do not send it again. Report it with the log of the engine host.
    """

    code = "kills_hosts"
    http_status = 500


class WorkerDied(EnvironmentFault):
    """The API worker died while it worked on this request. The edge answers it.

    Send it again. If it recurs, read the log of the worker in `logs/` of the home.
    """

    code = "worker_died"
    http_status = 503
    retryable = True


class SwitchedOff(EnvironmentFault):
    """This server could do it, and its ashore.toml does not switch it on.

    Set the key that the message names, and restart the server.
    """

    code = "switched_off"
    http_status = 404


class NotReady(EnvironmentFault):
    """The model is still loading.

    Wait; `/readyz` and `ashore status` show what is still missing.
    """

    code = "not_ready"
    http_status = 503
    retryable = True


class AuditUnavailable(EnvironmentFault):
    """The audit log cannot be written, so no request is answered.

    Free the disk that holds the audit log, or restart its writer. The worker then becomes ready by itself.
    """

    code = "audit_unavailable"
    http_status = 503
    retryable = True


class TamperedAudit(EnvironmentFault):
    """The audit log was changed after it was written.

    Keep the files as they are, and compare them with the anchor and the archive by `ashore audit verify`.
    """

    code = "tampered_audit"


class NodeUnavailable(EnvironmentFault):
    """A node of the backup is missing or does not work.

    Mount or reconnect the node, or replace it with `ashore backup replace`.
    """

    code = "node_unavailable"
    http_status = 503
    retryable = True


class TooFewNodes(EnvironmentFault):
    """Too few nodes of the backup work.

    Bring back enough nodes; the message says how many are needed.
    """

    code = "too_few_nodes"
    http_status = 503
    retryable = True


class BackupDamaged(EnvironmentFault):
    """Data on a node of the backup has changed since it was written.

    Run `ashore backup scrub`, which rebuilds the damaged parts from the other nodes.
    """

    code = "backup_damaged"


class Bug(AshoreError):
    """This is a bug in ashore. Please report it.

    Report it with the traceback from the log.
    """

    code = "internal_error"


def error_class(code: str) -> type[AshoreError] | None:
    """Return the class of an error that came from another process by its code; None for one that is not ours."""
    return _classes().get(code)


def error_codes() -> tuple[str, ...]:
    """Return every code that an error of ours can have."""
    return tuple(_classes())


@functools.cache
def _classes() -> dict[str, type[AshoreError]]:
    """Every error class by its code; where a group and a leaf share a code, the leaf."""
    found: dict[str, type[AshoreError]] = {}
    waiting: list[type[AshoreError]] = [AshoreError]
    while waiting:
        cls = waiting.pop(0)
        if cls.__module__ == AshoreError.__module__:
            found[cls.code] = cls
        waiting.extend(cls.__subclasses__())
    return found
