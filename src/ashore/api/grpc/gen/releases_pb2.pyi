from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Scalar(_message.Message):
    __slots__ = ("text", "integer", "number", "flag")
    TEXT_FIELD_NUMBER: _ClassVar[int]
    INTEGER_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    FLAG_FIELD_NUMBER: _ClassVar[int]
    text: str
    integer: int
    number: float
    flag: bool
    def __init__(self, text: _Optional[str] = ..., integer: _Optional[int] = ..., number: _Optional[float] = ..., flag: _Optional[bool] = ...) -> None: ...

class ListReleasesRequest(_message.Message):
    __slots__ = ("alias",)
    ALIAS_FIELD_NUMBER: _ClassVar[int]
    alias: str
    def __init__(self, alias: _Optional[str] = ...) -> None: ...

class CreateReleaseRequest(_message.Message):
    __slots__ = ("model", "alias", "name", "engine", "options", "adapters", "replicas", "override", "drop_adapters")
    class OptionsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: Scalar
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[Scalar, _Mapping]] = ...) -> None: ...
    class AdaptersEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    MODEL_FIELD_NUMBER: _ClassVar[int]
    ALIAS_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    ENGINE_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    ADAPTERS_FIELD_NUMBER: _ClassVar[int]
    REPLICAS_FIELD_NUMBER: _ClassVar[int]
    OVERRIDE_FIELD_NUMBER: _ClassVar[int]
    DROP_ADAPTERS_FIELD_NUMBER: _ClassVar[int]
    model: str
    alias: str
    name: str
    engine: str
    options: _containers.MessageMap[str, Scalar]
    adapters: _containers.ScalarMap[str, str]
    replicas: int
    override: str
    drop_adapters: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, model: _Optional[str] = ..., alias: _Optional[str] = ..., name: _Optional[str] = ..., engine: _Optional[str] = ..., options: _Optional[_Mapping[str, Scalar]] = ..., adapters: _Optional[_Mapping[str, str]] = ..., replicas: _Optional[int] = ..., override: _Optional[str] = ..., drop_adapters: _Optional[_Iterable[str]] = ...) -> None: ...

class GetReleaseRequest(_message.Message):
    __slots__ = ("release",)
    RELEASE_FIELD_NUMBER: _ClassVar[int]
    release: str
    def __init__(self, release: _Optional[str] = ...) -> None: ...

class GetEvidenceRequest(_message.Message):
    __slots__ = ("release",)
    RELEASE_FIELD_NUMBER: _ClassVar[int]
    release: str
    def __init__(self, release: _Optional[str] = ...) -> None: ...

class GetBurnRatesRequest(_message.Message):
    __slots__ = ("release",)
    RELEASE_FIELD_NUMBER: _ClassVar[int]
    release: str
    def __init__(self, release: _Optional[str] = ...) -> None: ...

class GetPairsRequest(_message.Message):
    __slots__ = ("release",)
    RELEASE_FIELD_NUMBER: _ClassVar[int]
    release: str
    def __init__(self, release: _Optional[str] = ...) -> None: ...

class ShadowReleaseRequest(_message.Message):
    __slots__ = ("release", "share_percent", "automatic", "why", "version")
    RELEASE_FIELD_NUMBER: _ClassVar[int]
    SHARE_PERCENT_FIELD_NUMBER: _ClassVar[int]
    AUTOMATIC_FIELD_NUMBER: _ClassVar[int]
    WHY_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    release: str
    share_percent: float
    automatic: bool
    why: str
    version: int
    def __init__(self, release: _Optional[str] = ..., share_percent: _Optional[float] = ..., automatic: _Optional[bool] = ..., why: _Optional[str] = ..., version: _Optional[int] = ...) -> None: ...

class CanaryReleaseRequest(_message.Message):
    __slots__ = ("release", "share_percent", "steps_percent", "every_s", "then_promote", "automatic", "why", "version", "drop_adapters")
    RELEASE_FIELD_NUMBER: _ClassVar[int]
    SHARE_PERCENT_FIELD_NUMBER: _ClassVar[int]
    STEPS_PERCENT_FIELD_NUMBER: _ClassVar[int]
    EVERY_S_FIELD_NUMBER: _ClassVar[int]
    THEN_PROMOTE_FIELD_NUMBER: _ClassVar[int]
    AUTOMATIC_FIELD_NUMBER: _ClassVar[int]
    WHY_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    DROP_ADAPTERS_FIELD_NUMBER: _ClassVar[int]
    release: str
    share_percent: float
    steps_percent: _containers.RepeatedScalarFieldContainer[float]
    every_s: int
    then_promote: bool
    automatic: bool
    why: str
    version: int
    drop_adapters: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, release: _Optional[str] = ..., share_percent: _Optional[float] = ..., steps_percent: _Optional[_Iterable[float]] = ..., every_s: _Optional[int] = ..., then_promote: _Optional[bool] = ..., automatic: _Optional[bool] = ..., why: _Optional[str] = ..., version: _Optional[int] = ..., drop_adapters: _Optional[_Iterable[str]] = ...) -> None: ...

class PromoteReleaseRequest(_message.Message):
    __slots__ = ("release", "standby_s", "cold_standby", "automatic", "why", "version", "override", "drop_adapters")
    RELEASE_FIELD_NUMBER: _ClassVar[int]
    STANDBY_S_FIELD_NUMBER: _ClassVar[int]
    COLD_STANDBY_FIELD_NUMBER: _ClassVar[int]
    AUTOMATIC_FIELD_NUMBER: _ClassVar[int]
    WHY_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    OVERRIDE_FIELD_NUMBER: _ClassVar[int]
    DROP_ADAPTERS_FIELD_NUMBER: _ClassVar[int]
    release: str
    standby_s: int
    cold_standby: bool
    automatic: bool
    why: str
    version: int
    override: str
    drop_adapters: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, release: _Optional[str] = ..., standby_s: _Optional[int] = ..., cold_standby: _Optional[bool] = ..., automatic: _Optional[bool] = ..., why: _Optional[str] = ..., version: _Optional[int] = ..., override: _Optional[str] = ..., drop_adapters: _Optional[_Iterable[str]] = ...) -> None: ...

class RetireReleaseRequest(_message.Message):
    __slots__ = ("release", "why")
    RELEASE_FIELD_NUMBER: _ClassVar[int]
    WHY_FIELD_NUMBER: _ClassVar[int]
    release: str
    why: str
    def __init__(self, release: _Optional[str] = ..., why: _Optional[str] = ...) -> None: ...

class ListAliasesRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetAliasRequest(_message.Message):
    __slots__ = ("alias",)
    ALIAS_FIELD_NUMBER: _ClassVar[int]
    alias: str
    def __init__(self, alias: _Optional[str] = ...) -> None: ...

class GetAliasStatusRequest(_message.Message):
    __slots__ = ("alias",)
    ALIAS_FIELD_NUMBER: _ClassVar[int]
    alias: str
    def __init__(self, alias: _Optional[str] = ...) -> None: ...

class WatchAliasRequest(_message.Message):
    __slots__ = ("alias",)
    ALIAS_FIELD_NUMBER: _ClassVar[int]
    alias: str
    def __init__(self, alias: _Optional[str] = ...) -> None: ...

class GetHistoryRequest(_message.Message):
    __slots__ = ("alias", "limit")
    ALIAS_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    alias: str
    limit: int
    def __init__(self, alias: _Optional[str] = ..., limit: _Optional[int] = ...) -> None: ...

class SetAliasRequest(_message.Message):
    __slots__ = ("alias", "weights_percent", "sticky", "why", "version")
    class WeightsPercentEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    ALIAS_FIELD_NUMBER: _ClassVar[int]
    WEIGHTS_PERCENT_FIELD_NUMBER: _ClassVar[int]
    STICKY_FIELD_NUMBER: _ClassVar[int]
    WHY_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    alias: str
    weights_percent: _containers.ScalarMap[str, float]
    sticky: str
    why: str
    version: int
    def __init__(self, alias: _Optional[str] = ..., weights_percent: _Optional[_Mapping[str, float]] = ..., sticky: _Optional[str] = ..., why: _Optional[str] = ..., version: _Optional[int] = ...) -> None: ...

class RemoveAliasRequest(_message.Message):
    __slots__ = ("alias",)
    ALIAS_FIELD_NUMBER: _ClassVar[int]
    alias: str
    def __init__(self, alias: _Optional[str] = ...) -> None: ...

class RollBackRequest(_message.Message):
    __slots__ = ("alias", "to", "cold_standby", "why", "version")
    ALIAS_FIELD_NUMBER: _ClassVar[int]
    TO_FIELD_NUMBER: _ClassVar[int]
    COLD_STANDBY_FIELD_NUMBER: _ClassVar[int]
    WHY_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    alias: str
    to: str
    cold_standby: bool
    why: str
    version: int
    def __init__(self, alias: _Optional[str] = ..., to: _Optional[str] = ..., cold_standby: _Optional[bool] = ..., why: _Optional[str] = ..., version: _Optional[int] = ...) -> None: ...

class Release(_message.Message):
    __slots__ = ("name", "alias", "model", "engine", "replicas", "state", "goal", "share_percent", "steps_percent", "until", "since", "why", "automatic", "weights_percent", "needed_bytes", "gate", "content", "parts", "options", "adapters", "created_at", "created_by", "load_s", "gate_verdict")
    class WeightsPercentEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    class PartsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    class OptionsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: Scalar
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[Scalar, _Mapping]] = ...) -> None: ...
    class AdaptersEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    NAME_FIELD_NUMBER: _ClassVar[int]
    ALIAS_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    ENGINE_FIELD_NUMBER: _ClassVar[int]
    REPLICAS_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    GOAL_FIELD_NUMBER: _ClassVar[int]
    SHARE_PERCENT_FIELD_NUMBER: _ClassVar[int]
    STEPS_PERCENT_FIELD_NUMBER: _ClassVar[int]
    UNTIL_FIELD_NUMBER: _ClassVar[int]
    SINCE_FIELD_NUMBER: _ClassVar[int]
    WHY_FIELD_NUMBER: _ClassVar[int]
    AUTOMATIC_FIELD_NUMBER: _ClassVar[int]
    WEIGHTS_PERCENT_FIELD_NUMBER: _ClassVar[int]
    NEEDED_BYTES_FIELD_NUMBER: _ClassVar[int]
    GATE_FIELD_NUMBER: _ClassVar[int]
    CONTENT_FIELD_NUMBER: _ClassVar[int]
    PARTS_FIELD_NUMBER: _ClassVar[int]
    OPTIONS_FIELD_NUMBER: _ClassVar[int]
    ADAPTERS_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_FIELD_NUMBER: _ClassVar[int]
    CREATED_BY_FIELD_NUMBER: _ClassVar[int]
    LOAD_S_FIELD_NUMBER: _ClassVar[int]
    GATE_VERDICT_FIELD_NUMBER: _ClassVar[int]
    name: str
    alias: str
    model: str
    engine: str
    replicas: int
    state: str
    goal: str
    share_percent: float
    steps_percent: _containers.RepeatedScalarFieldContainer[float]
    until: int
    since: int
    why: str
    automatic: bool
    weights_percent: _containers.ScalarMap[str, float]
    needed_bytes: int
    gate: str
    content: str
    parts: _containers.ScalarMap[str, str]
    options: _containers.MessageMap[str, Scalar]
    adapters: _containers.ScalarMap[str, str]
    created_at: int
    created_by: str
    load_s: float
    gate_verdict: str
    def __init__(self, name: _Optional[str] = ..., alias: _Optional[str] = ..., model: _Optional[str] = ..., engine: _Optional[str] = ..., replicas: _Optional[int] = ..., state: _Optional[str] = ..., goal: _Optional[str] = ..., share_percent: _Optional[float] = ..., steps_percent: _Optional[_Iterable[float]] = ..., until: _Optional[int] = ..., since: _Optional[int] = ..., why: _Optional[str] = ..., automatic: _Optional[bool] = ..., weights_percent: _Optional[_Mapping[str, float]] = ..., needed_bytes: _Optional[int] = ..., gate: _Optional[str] = ..., content: _Optional[str] = ..., parts: _Optional[_Mapping[str, str]] = ..., options: _Optional[_Mapping[str, Scalar]] = ..., adapters: _Optional[_Mapping[str, str]] = ..., created_at: _Optional[int] = ..., created_by: _Optional[str] = ..., load_s: _Optional[float] = ..., gate_verdict: _Optional[str] = ...) -> None: ...

class BurnRate(_message.Message):
    __slots__ = ("objective", "allowed_percent", "taken_back_from", "long_window_s", "long_rate", "short_window_s", "short_rate", "requests", "bad", "alone")
    OBJECTIVE_FIELD_NUMBER: _ClassVar[int]
    ALLOWED_PERCENT_FIELD_NUMBER: _ClassVar[int]
    TAKEN_BACK_FROM_FIELD_NUMBER: _ClassVar[int]
    LONG_WINDOW_S_FIELD_NUMBER: _ClassVar[int]
    LONG_RATE_FIELD_NUMBER: _ClassVar[int]
    SHORT_WINDOW_S_FIELD_NUMBER: _ClassVar[int]
    SHORT_RATE_FIELD_NUMBER: _ClassVar[int]
    REQUESTS_FIELD_NUMBER: _ClassVar[int]
    BAD_FIELD_NUMBER: _ClassVar[int]
    ALONE_FIELD_NUMBER: _ClassVar[int]
    objective: str
    allowed_percent: float
    taken_back_from: float
    long_window_s: int
    long_rate: float
    short_window_s: int
    short_rate: float
    requests: int
    bad: int
    alone: bool
    def __init__(self, objective: _Optional[str] = ..., allowed_percent: _Optional[float] = ..., taken_back_from: _Optional[float] = ..., long_window_s: _Optional[int] = ..., long_rate: _Optional[float] = ..., short_window_s: _Optional[int] = ..., short_rate: _Optional[float] = ..., requests: _Optional[int] = ..., bad: _Optional[int] = ..., alone: _Optional[bool] = ...) -> None: ...

class BurnList(_message.Message):
    __slots__ = ("items",)
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    items: _containers.RepeatedCompositeFieldContainer[BurnRate]
    def __init__(self, items: _Optional[_Iterable[_Union[BurnRate, _Mapping]]] = ...) -> None: ...

class ReleaseList(_message.Message):
    __slots__ = ("items",)
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    items: _containers.RepeatedCompositeFieldContainer[Release]
    def __init__(self, items: _Optional[_Iterable[_Union[Release, _Mapping]]] = ...) -> None: ...

class Alias(_message.Message):
    __slots__ = ("name", "weights_percent", "sticky", "version", "changed_at", "changed_by", "before")
    class WeightsPercentEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    NAME_FIELD_NUMBER: _ClassVar[int]
    WEIGHTS_PERCENT_FIELD_NUMBER: _ClassVar[int]
    STICKY_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    CHANGED_AT_FIELD_NUMBER: _ClassVar[int]
    CHANGED_BY_FIELD_NUMBER: _ClassVar[int]
    BEFORE_FIELD_NUMBER: _ClassVar[int]
    name: str
    weights_percent: _containers.ScalarMap[str, float]
    sticky: str
    version: int
    changed_at: int
    changed_by: str
    before: str
    def __init__(self, name: _Optional[str] = ..., weights_percent: _Optional[_Mapping[str, float]] = ..., sticky: _Optional[str] = ..., version: _Optional[int] = ..., changed_at: _Optional[int] = ..., changed_by: _Optional[str] = ..., before: _Optional[str] = ...) -> None: ...

class AliasList(_message.Message):
    __slots__ = ("items",)
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    items: _containers.RepeatedCompositeFieldContainer[Alias]
    def __init__(self, items: _Optional[_Iterable[_Union[Alias, _Mapping]]] = ...) -> None: ...

class AliasStatus(_message.Message):
    __slots__ = ("alias", "releases")
    ALIAS_FIELD_NUMBER: _ClassVar[int]
    RELEASES_FIELD_NUMBER: _ClassVar[int]
    alias: Alias
    releases: _containers.RepeatedCompositeFieldContainer[Release]
    def __init__(self, alias: _Optional[_Union[Alias, _Mapping]] = ..., releases: _Optional[_Iterable[_Union[Release, _Mapping]]] = ...) -> None: ...

class AliasRemoved(_message.Message):
    __slots__ = ("name", "removed")
    NAME_FIELD_NUMBER: _ClassVar[int]
    REMOVED_FIELD_NUMBER: _ClassVar[int]
    name: str
    removed: bool
    def __init__(self, name: _Optional[str] = ..., removed: _Optional[bool] = ...) -> None: ...

class Finding(_message.Message):
    __slots__ = ("stage", "verdict", "e_value", "requests", "measure", "slice", "details", "needed", "summary")
    class DetailsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: Scalar
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[Scalar, _Mapping]] = ...) -> None: ...
    STAGE_FIELD_NUMBER: _ClassVar[int]
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    E_VALUE_FIELD_NUMBER: _ClassVar[int]
    REQUESTS_FIELD_NUMBER: _ClassVar[int]
    MEASURE_FIELD_NUMBER: _ClassVar[int]
    SLICE_FIELD_NUMBER: _ClassVar[int]
    DETAILS_FIELD_NUMBER: _ClassVar[int]
    NEEDED_FIELD_NUMBER: _ClassVar[int]
    SUMMARY_FIELD_NUMBER: _ClassVar[int]
    stage: str
    verdict: str
    e_value: float
    requests: int
    measure: str
    slice: str
    details: _containers.MessageMap[str, Scalar]
    needed: int
    summary: str
    def __init__(self, stage: _Optional[str] = ..., verdict: _Optional[str] = ..., e_value: _Optional[float] = ..., requests: _Optional[int] = ..., measure: _Optional[str] = ..., slice: _Optional[str] = ..., details: _Optional[_Mapping[str, Scalar]] = ..., needed: _Optional[int] = ..., summary: _Optional[str] = ...) -> None: ...

class FindingList(_message.Message):
    __slots__ = ("items",)
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    items: _containers.RepeatedCompositeFieldContainer[Finding]
    def __init__(self, items: _Optional[_Iterable[_Union[Finding, _Mapping]]] = ...) -> None: ...

class Pair(_message.Message):
    __slots__ = ("at", "distance", "tenant", "route", "turns", "prompt", "live", "candidate", "candidate_failed", "meaning")
    AT_FIELD_NUMBER: _ClassVar[int]
    DISTANCE_FIELD_NUMBER: _ClassVar[int]
    TENANT_FIELD_NUMBER: _ClassVar[int]
    ROUTE_FIELD_NUMBER: _ClassVar[int]
    TURNS_FIELD_NUMBER: _ClassVar[int]
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    LIVE_FIELD_NUMBER: _ClassVar[int]
    CANDIDATE_FIELD_NUMBER: _ClassVar[int]
    CANDIDATE_FAILED_FIELD_NUMBER: _ClassVar[int]
    MEANING_FIELD_NUMBER: _ClassVar[int]
    at: int
    distance: float
    tenant: str
    route: str
    turns: int
    prompt: str
    live: str
    candidate: str
    candidate_failed: bool
    meaning: float
    def __init__(self, at: _Optional[int] = ..., distance: _Optional[float] = ..., tenant: _Optional[str] = ..., route: _Optional[str] = ..., turns: _Optional[int] = ..., prompt: _Optional[str] = ..., live: _Optional[str] = ..., candidate: _Optional[str] = ..., candidate_failed: _Optional[bool] = ..., meaning: _Optional[float] = ...) -> None: ...

class PairList(_message.Message):
    __slots__ = ("items",)
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    items: _containers.RepeatedCompositeFieldContainer[Pair]
    def __init__(self, items: _Optional[_Iterable[_Union[Pair, _Mapping]]] = ...) -> None: ...

class Event(_message.Message):
    __slots__ = ("at", "alias", "release", "verb", "state", "actor", "why", "evidence")
    class EvidenceEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: Scalar
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[Scalar, _Mapping]] = ...) -> None: ...
    AT_FIELD_NUMBER: _ClassVar[int]
    ALIAS_FIELD_NUMBER: _ClassVar[int]
    RELEASE_FIELD_NUMBER: _ClassVar[int]
    VERB_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    ACTOR_FIELD_NUMBER: _ClassVar[int]
    WHY_FIELD_NUMBER: _ClassVar[int]
    EVIDENCE_FIELD_NUMBER: _ClassVar[int]
    at: float
    alias: str
    release: str
    verb: str
    state: str
    actor: str
    why: str
    evidence: _containers.MessageMap[str, Scalar]
    def __init__(self, at: _Optional[float] = ..., alias: _Optional[str] = ..., release: _Optional[str] = ..., verb: _Optional[str] = ..., state: _Optional[str] = ..., actor: _Optional[str] = ..., why: _Optional[str] = ..., evidence: _Optional[_Mapping[str, Scalar]] = ...) -> None: ...

class EventList(_message.Message):
    __slots__ = ("items",)
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    items: _containers.RepeatedCompositeFieldContainer[Event]
    def __init__(self, items: _Optional[_Iterable[_Union[Event, _Mapping]]] = ...) -> None: ...
