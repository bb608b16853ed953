"""What `--help` shows of each noun in use. A test parses every line, so that none names an option that is gone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final


@dataclass(frozen=True, slots=True)
class Example:
    """One command line that can be typed, and what it does."""

    line: str
    what: str


EXAMPLES: Final[Mapping[str, tuple[Example, ...]]] = MappingProxyType(
    {
        "up": (
            Example("ashore up", "serve the demo model and an embedder on 127.0.0.1:8080"),
            Example("ashore up --dry-run --config ashore.toml", "say what the file would start, and why"),
            Example("ashore up smollm2 --edge envoy --workers 2 --redis embedded", "TLS, two workers, a shared cache"),
            Example("ashore up 'fake:echo?tok_per_s=20'", "try it with no model at all"),
        ),
        "status": (
            Example("ashore status", "what runs, what waits, what the cache gives; needs no key"),
            Example("ashore status --json", "the same for a script"),
        ),
        "reload": (
            Example("ashore reload --dry-run", "show what the changed ashore.toml would change"),
            Example("ashore reload", "change it, while requests go on"),
        ),
        "chat": (
            Example("ashore chat", "talk to the server of this home; /exit leaves"),
            Example("ashore chat smollm2 --temperature 0 --stats", "greedy, with tokens and speed after each answer"),
            Example("echo 'Name the capital of France in a full sentence.' | ashore chat", "one question, one answer"),
            Example("ashore chat --url https://models.example.com/v1", "another server; the key is in ASHORE_API_KEY"),
        ),
        "model": (
            Example("ashore model pull smollm2", "bring a model of the catalogue into the store"),
            Example("ashore model pull ./my-checkpoint --name mine", "a folder in Hugging Face form, or a .gguf file"),
            Example("ashore model list --catalog", "the models that ashore knows by name"),
            Example("ashore model show smollm2", "files, digests, licence, what its makers recommend"),
            Example("ashore model push smollm2 oci://registry.example.com/models/smollm2:1", "to a registry or bucket"),
            Example("ashore model export smollm2 smollm2.tar", "one file to carry; ashore model import takes it"),
            Example("ashore model remove smollm2@int8", "one variant; then ashore model gc frees the bytes"),
        ),
        "engine": (
            Example("ashore engine list", "what is installed, and how to install the rest"),
            Example("ashore engine tune smollm2 --for throughput", "for 16 streams; ashore up takes the choice"),
        ),
        "optimize": (
            Example("ashore optimize quantize smollm2 --to int8", "a variant that ashore up smollm2@int8 serves"),
            Example("ashore optimize evaluate smollm2@int8 --against parent", "what the fewer bits cost"),
            Example("ashore optimize prune smollm2 --remove 30% --heal text.txt --dry-run", "what would go"),
            Example("ashore optimize distill my-teacher --data task.jsonl", "a student of half the parameters"),
            Example("ashore optimize compare smollm2 smollm2@int8 --out page", "kept evaluations on one page"),
            Example("ashore optimize rebuild smollm2@int8", "the same bytes again?"),
        ),
        "train": (
            Example("ashore train sft smollm2 --data chats.jsonl --dry-run", "steps, memory and what would come out"),
            Example("ashore train sft smollm2 --data chats.jsonl --name tone", "an adapter for ashore.toml"),
        ),
        "release": (
            Example("ashore release create --model smollm2@int4 --alias chat", "make chat-2; nothing is loaded yet"),
            Example("ashore release shadow chat-2 --share 10", "it answers copies; nobody sees its answers"),
            Example("ashore release canary chat-2 --share 5 --steps 20,50 --every 10m", "then a part of the requests"),
            Example("ashore release promote chat-2", "all of them; the one before stays warm for an hour"),
            Example("ashore release rollback chat", "back, in a second while that is warm"),
        ),
        "alias": (
            Example("ashore alias list", "which release answers under which name"),
            Example("ashore alias set chat chat-1=90 chat-2=10", "divide a name by hand"),
        ),
        "cache": (
            Example("ashore cache stats", "look-ups, hits and bytes, by worker, tenant and model"),
            Example("ashore cache purge --tenant bank-a", "forget what one tenant's answers were"),
            Example("ashore cache import pairs.jsonl --dry-run", "check curated answers before they are given"),
        ),
        "backup": (
            Example("ashore backup init --nodes /mnt/a,/mnt/b,s3://backups/ashore --code 2+1", "any one may be lost"),
            Example("ashore backup run", "make one now"),
            Example("ashore backup status", "what could be lost now"),
            Example("ashore backup restore --nodes /mnt/a,/mnt/b --key recovery.key", "onto an empty home"),
        ),
        "audit": (
            Example("ashore audit search --tenant bank-a --since 3h", "who asked what, newest first"),
            Example("ashore audit verify", "is every record what was written?"),
            Example("ashore audit export out --form csv --since 2026-11-01", "for an auditor, with a signed manifest"),
        ),
        "secret": (
            Example("ashore secret list", "which secrets lie sealed; shows no value"),
            Example("ashore secret seal --config ashore.toml --dry-run", "what would be sealed"),
        ),
        "privacy": (
            Example("ashore privacy mask letter.txt", "a text as a model would see it"),
            Example("ashore privacy policy show --toml", "the policy in force, as a file that set takes"),
        ),
        "access": (
            Example("ashore access user create alice --role auditor", "a person with a key, shown this once"),
            Example("ashore access service create app --tenant bank-a --role developer", "a program"),
            Example("ashore access key create app --model smollm2 --expires 90d", "its key, for one model"),
            Example("ashore access budget set tokens 1000000 --per day --tenant bank-a", "bound a tenant"),
            Example("ashore access can alice infer model/smollm2 --explain", "may she, and by which rule?"),
            Example("ashore access usage --by tenant,day --csv", "who used how much"),
        ),
        "bench": (
            Example("ashore bench serve --concurrency 16", "16 users, each asking again when answered"),
            Example("ashore bench serve http://127.0.0.1:8000 --model m --rate 5", "any OpenAI server, 5 requests/s"),
        ),
        "config": (
            Example("ashore config example", "a file to begin with: every key, in comments"),
            Example("ashore config show --config ashore.toml --changed", "what differs from the defaults, and why"),
        ),
        "deploy": (
            Example("ashore deploy render envoy --config ashore.toml", "the edge's configuration, with its reasons"),
            Example("ashore deploy render systemd --config /etc/ashore/ashore.toml", "a service that starts at boot"),
        ),
        "job": (
            Example("ashore job list --state running", "batches and background answers"),
            Example("ashore job cancel batch_0123456789abcdef", "what is done stays"),
        ),
        "completion": (
            Example("ashore completion install", "for the shell that you use"),
        ),
    }
)  # fmt: skip
