"""Every adapter of every port is in a contract suite, or stands here with what holds it instead.

A port is a `Protocol` in a file `ports.py` of a room, with two methods or more (one word alone is on many classes that
are no adapter), and an adapter is a class of ours that has all of them. A port with a single adapter needs no suite: it
needs one as soon as there is a second.
"""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest

import ashore

SOURCE = Path(ashore.__file__).parent
SUITES = Path(__file__).parent
TWINS = [
    SUITES.parent / "support" / f"memory_{one}.py"
    for one in ("anchor", "archive", "keeper", "node", "replica", "tier", "workshop")
]
"""The adapters that tests alone use."""

COVERED = {
    "audit/anchors:Anchor": (
        "test_audit_anchors.py",
        {"BucketAnchor": "s3", "FolderAnchor": "folder", "MemoryAnchor": "memory", "SyslogAnchor": "syslog+"},
    ),
    "backup:Node": (
        "test_backup_nodes.py", {"BucketNode": "bucket", "DirectoryNode": "directory", "MemoryNode": "memory"},
    ),
    "backup:Sink": (
        "test_backup_nodes.py", {"BucketSink": "bucket", "DirectorySink": "directory", "MemorySink": "memory"},
    ),
    "backup:Source": (
        "test_backup_nodes.py", {"BucketSource": "bucket", "DirectorySource": "directory", "MemorySource": "memory"},
    ),
    "cache:SharedTier": ("test_cache_shared_tier.py", {"MemoryTier": "MemoryTier", "ValkeyTier": "ValkeyTier"}),
    "engines:Engine": (
        "test_engine_contract.py",
        {
            **dict.fromkeys(("FakeEngine", "LlamaCppEngine", "OpenVinoEngine", "TorchEngine", "VllmEngine"), "CARDS"),
            "TabularEngine": "CARDS",
        },
    ),
    "engines:CanSleep": ("test_engine_contract.py", {"FakeEngine": "CanSleep", "VllmEngine": "CanSleep"}),
    "sealing:KeyKeeper": (
        "test_sealing_keepers.py",
        {
            "KeyringKeeper": "KeyringKeeper", "MemoryKeeper": "MemoryKeeper", "PassphraseKeeper": "PassphraseKeeper",
            "TransitKeeper": "TransitKeeper",
        },
    ),
    "sites:CentreLink": (
        "test_site_links.py", {"BucketLink": "bucket", "FolderLink": "folder", "HttpLink": "http"},
    ),
    "sites:Tree": ("test_site_links.py", {"BucketLink": "bucket", "FolderLink": "folder"}),
    "path:Replica": ("test_serving_replica.py", {"HostClient": "HostClient", "MemoryReplica": "MemoryReplica"}),
    "state:Changes": ("test_state_contract.py", {"_Announcements": "sqlite", "_Notifications": "postgres"}),
    "state:Database": ("test_state_contract.py", {"PostgresDatabase": "postgres", "SqliteDatabase": "sqlite"}),
    "store:FileSource": (
        "test_store_sources.py",
        {"HuggingFaceSource": "fill_hf", "ModelScopeSource": "fill_ms", "PypiSource": "fill_pypi"},
    ),
    "store:ManifestRemote": ("test_store_sources.py", {"RegistryRemote": "fill_oci"}),
}  # fmt: skip
"""By port its suite, and by adapter the word in it that opens the adapter."""

ELSEWHERE = {
    "authority:Authority Owned": "the owner of the home, who may do everything",
    "authority:Authority PolicyAuthority": "unit/access/test_access_authority.py",
    "audit/anchors:Anchor BucketPlace": "reads shards of training data; no anchor",
    "audit/anchors:Anchor FileOfLines": "a part of FolderAnchor",
    "backup:Node UnknownNode": "stands for a place that is no form of ours, and refuses every call",
    "backup:Sink _Shard": "one shard of a backup, which fills the sinks of nodes",
    "console:Serving ServingService": "integration/test_console_pages.py, with everything in one process",
    "console:Serving WorkersView": "unit/test_control_workers.py",
    "releases:Workshop MemoryWorkshop": "the twin of the releases' suite, which makes up what it describes",
    "releases:Workshop StoreWorkshop": "unit/releases/test_release_limits.py; what it gives is what `planning` decides",
    "engines:Engine TextOnlyEngine": "test_text_only.py: it takes messages, and no token ids",
    "engines:CanSleep TextOnlyEngine": "test_text_only.py: its card has no sleep",
    "path:AnswerParserLike AnswerParser": "unit/test_text_answer.py",
    "path:AnswerParserLike BytesParser": "bytes as they come, for models without a tokenizer: it finds nothing",
    "path:AnswerPieceLike AnswerPiece": "data",
    "path:AnswerPieceLike BytesPiece": "data",
    "path:ServedText BytesText": "a byte is a token, and there is no template: there is nothing to agree on",
    "path:ServedText TextOnly": "test_text_only.py: it has no tokens, and says so",
    "path:ServedText TextModel": "unit/test_text_model.py",
    "path:ToolCallPieceLike SaidCall": "data",
    "path:ToolCallPieceLike ToolCallDelta": "data",
    "path:ToolCallPieceLike ToolCallPiece": "data",
    **{
        f"sites:CentreLink {one}": "keeps checkpoints or lines, and reads no tree"
        for one in ("BucketAnchor", "FileOfLines", "FolderAnchor", "MemoryAnchor", "SyslogAnchor")
    },
    "sites:CentreLink BucketPlace": "reads shards of training data, and no tree",
    "sites:CentreLink OwnHands": "acts on the site itself, and reads no tree",
    "state:Changes Constraint": "a grammar that a process follows; it waits for an answer, and not for a change",
    "store:FileSource HubSource": "what the two hubs share",
    "store:FileSource LocalSource": "unit/test_store_service.py: there is no other side that could fail as hubs do",
    "store:FileSource S3FilesSource": "integration/test_store_s3.py, against a real server",
    "store:ManifestRemote S3LayoutRemote": "integration/test_store_s3.py, against a real server",
}
"""Adapters in no contract suite, and why."""


def _is_protocol(node: ast.ClassDef) -> bool:
    return any(ast.unparse(base).startswith("Protocol") for base in node.bases)


def _methods(node: ast.ClassDef) -> set[str]:
    return {
        one.name
        for one in node.body
        if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef) and not one.name.startswith("_")
    }


@cache
def _classes() -> dict[str, list[ast.ClassDef]]:
    found: dict[str, list[ast.ClassDef]] = {}
    for file in (*SOURCE.rglob("*.py"), *TWINS):
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef):
                found.setdefault(node.name, []).append(node)
    return found


@cache
def _names(node: ast.ClassDef, seen: frozenset[str] = frozenset()) -> set[str]:
    """Return what an object of a class has by name: methods and attributes, those of its bases with them."""
    found = _methods(node)
    for one in ast.walk(node):
        if isinstance(one, ast.AnnAssign) and isinstance(one.target, ast.Name):
            found.add(one.target.id)
        elif isinstance(one, ast.Assign):
            found |= {target.id for target in one.targets if isinstance(target, ast.Name)}
        elif isinstance(one, ast.Attribute) and isinstance(one.ctx, ast.Store):
            found.add(one.attr)
    for base in node.bases:
        name = ast.unparse(base).partition("[")[0].rpartition(".")[2]
        if name not in seen:
            for other in _classes().get(name, []):
                found |= _names(other, seen | {name})
    return found


@cache
def _ports() -> dict[str, set[str]]:
    """Return the adapters of each port, where there is more than one."""
    found = {}
    for file in SOURCE.rglob("ports.py"):
        room = "/".join(file.parent.relative_to(SOURCE).parts[1:])
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and _is_protocol(node) and len(wanted := _methods(node)) > 1:
                adapters = {
                    name
                    for name, several in _classes().items()
                    if any(not _is_protocol(one) and wanted <= _names(one) for one in several)
                }
                if len(adapters) > 1:
                    found[f"{room}:{node.name}"] = adapters
    return found


def test_every_adapter_is_in_a_suite_or_says_why_not() -> None:
    held = {f"{port} {adapter}" for port, (_, adapters) in COVERED.items() for adapter in adapters} | set(ELSEWHERE)
    found = {f"{port} {adapter}" for port, adapters in _ports().items() for adapter in adapters}
    assert found - held == set(), "give it a parameter in the contract suite of its port, and its row here"
    assert held - found == set(), "is there no longer"
    assert not {f"{port} {one}" for port, (_, adapters) in COVERED.items() for one in adapters} & set(ELSEWHERE)


@pytest.mark.parametrize("port", COVERED)
def test_a_suite_opens_the_adapters_that_it_is_said_to_hold(port: str) -> None:
    suite, adapters = COVERED[port]
    words = set()
    for node in ast.walk(ast.parse((SUITES / suite).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Name):
            words.add(node.id)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            words.add(node.value)
    assert set(adapters.values()) <= words
