"""Examples of every command, which `--help` and the reference show. A test parses each one and requires one for every
command.

To add one, put it under its noun: in `EXAMPLES` where it shows what the noun is for (`ashore NOUN --help` prints
those), else in `MORE`.
"""

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
            Example("ashore up --dry-run --config ashore.toml", "show what the file would start, and why"),
            Example("ashore up smollm2 --edge envoy --workers 2 --redis embedded", "TLS, two workers, a shared cache"),
            Example("ashore up 'fake:echo?tok_per_s=20'", "try it without a model"),
        ),
        "status": (
            Example("ashore status", "what is running, waiting and cached; needs no key"),
            Example("ashore status --json", "the same for a script"),
        ),
        "doctor": (
            Example("ashore doctor", "what is wrong, why, and what to do; needs no key and no running server"),
            Example("ashore doctor apply --dry-run", "the safe changes that it would make"),
            Example("ashore doctor bundle", "a file for support, without prompts and secrets"),
        ),
        "drill": (
            Example("ashore drill list", "what can be rehearsed, its last verdict, and when it is due"),
            Example("ashore drill run host-killed --twin", "on a server of its own that is thrown away"),
            Example("ashore drill reports --since 90d", "the verdicts of a quarter, against the audit log"),
        ),
        "logs": (
            Example("ashore logs", "the last lines of every process"),
            Example("ashore logs api --follow", "what the API worker writes, until Ctrl-C"),
            Example("ashore logs --level warning", "what was refused or failed"),
        ),
        "stop": (Example("ashore stop", "as Ctrl-C in the terminal of `ashore up`"),),
        "reload": (
            Example("ashore reload --dry-run", "show what the changed ashore.toml would change"),
            Example("ashore reload", "apply it, while requests go on"),
            Example("ashore reload --take chat", "serve chat as the file says, in place of a promoted release"),
        ),
        "chat": (
            Example("ashore chat", "talk to the server of this home; /exit leaves"),
            Example("ashore chat smollm2 --temperature 0 --stats", "greedy, with tokens and speed after each answer"),
            Example("echo 'Name the capital of France in a full sentence.' | ashore chat", "one question, one answer"),
            Example("ashore chat --url https://models.example.com/v1", "another server; the key is in ASHORE_API_KEY"),
        ),
        "launch": (
            Example("ashore launch claude", "Claude Code on the first model with enough context; nothing is written"),
            Example("ashore launch codex --model qwen3:4b --print", "the commands for a shell, to look at or to keep"),
        ),
        "model": (
            Example("ashore model pull smollm2", "a model of the catalogue"),
            Example(
                "ashore model pull ./my-checkpoint --name mine", "a folder in Hugging Face format, or a .gguf file"
            ),
            Example("ashore model catalog", "the models that ashore knows by name"),
            Example("ashore model list", "the models on this machine, with sizes and gates"),
            Example("ashore model show smollm2", "files, digests, licence, recommended sampling"),
            Example("ashore model push smollm2 oci://registry.example.com/models/smollm2:1", "to a registry or bucket"),
            Example("ashore model export smollm2 smollm2.tar", "one file to carry; ashore model import reads it"),
            Example("ashore model remove smollm2@int8", "one variant; then ashore model gc frees the bytes"),
            Example("ashore model ps", "what is in memory, idle since when, and what makes room first"),
        ),
        "engine": (
            Example("ashore engine list", "what is installed, and how to install the rest"),
            Example("ashore engine tune smollm2 --for throughput", "for 16 streams; ashore up uses the choice"),
            Example("ashore engine serve smollm2 --port 8000", "one engine for another ashore or Kubernetes"),
        ),
        "plan": (
            Example("ashore plan gpus chat=0.5:40GB code=25%:20GB --way mig", "MIG instances, and what makes them"),
        ),
        "optimize": (
            Example("ashore optimize quantize smollm2 --to int8", "a variant that ashore up smollm2@int8 serves"),
            Example("ashore optimize evaluate smollm2@int8 --against parent", "what quantising costs in quality"),
            Example("ashore optimize prune smollm2 --remove 30% --heal text.txt --dry-run", "what would be removed"),
            Example("ashore optimize distill my-teacher --data task.jsonl", "a student of half the parameters"),
            Example("ashore optimize compare smollm2 smollm2@int8 --out page", "stored evaluations on one page"),
            Example("ashore optimize rebuild smollm2@int8", "check that its recipe gives the same bytes"),
        ),
        "data": (
            Example("ashore data pack chats.jsonl --out shards", "WebDataset shards of 64 MiB, and SHA256SUMS"),
            Example("ashore data pack chats/ --out s3://data/chats", "into a bucket"),
            Example("ashore data show 's3://data/chats/shard-{000000..000031}.tar'", "forms, sizes, first examples"),
            Example("ashore data verify shards", "read everything, compare with SHA256SUMS"),
        ),
        "train": (
            Example(
                "ashore train private smollm2 --data letters.jsonl --budget letters --num-examples 20000 --dry-run",
                "the noise that epsilon 1 needs",
            ),
            Example("ashore train sft smollm2 --data chats.jsonl --dry-run", "steps, memory and the result to expect"),
            Example("ashore train sft smollm2 --data chats.jsonl --name tone", "an adapter for ashore.toml"),
            Example("ashore train sft smollm2 --data s3://data/chats/", "shards of a bucket"),
            Example("ashore train canaries letters.jsonl --out planted", "secrets to look for after training"),
            Example(
                "ashore train attack smollm2-private --members planted/members.jsonl --others planted/others.jsonl",
                "the epsilon that an attack proves, beside the claimed one",
            ),
            Example("ashore train log", "every run in figures: loss, throughput, waits, memory"),
            Example("ashore train log tone --since 2h --json", "each step of the last two hours"),
            Example("ashore train log --archive s3://logs/train --older-than 30d", "move old logs into a bucket"),
        ),
        "learn": (
            Example("ashore learn votes", "how many votes there are, by tenant, model and release"),
            Example("ashore learn run smollm2 --dry-run", "show what a run would learn from, and what is held back"),
            Example("ashore learn run smollm2", "learn, judge, and shadow what passes; go on with a killed run"),
            Example("ashore learn status", "runs, with what the gate said and where they went"),
        ),
        "release": (
            Example("ashore release create --model smollm2@int4 --alias chat", "make chat-2; nothing is loaded yet"),
            Example("ashore release shadow chat-2 --share 10", "it answers copies; clients never see them"),
            Example(
                "ashore release canary chat-2 --share 5 --steps 20,50 --every 10m",
                "then a share of all requests",
            ),
            Example("ashore release promote chat-2", "all requests; the previous release stays loaded for an hour"),
            Example("ashore release rollback chat", "takes under a second while the previous release is loaded"),
        ),
        "alias": (
            Example("ashore alias list", "which release answers under which name"),
            Example("ashore alias set chat chat-1=90 chat-2=10", "split an alias by hand"),
        ),
        "cache": (
            Example("ashore cache stats", "lookups, hits and bytes, by worker, tenant and model"),
            Example("ashore cache purge --tenant bank-a", "purge the cached answers of one tenant"),
            Example("ashore cache import pairs.jsonl --dry-run", "check curated answers before they are used"),
        ),
        "backup": (
            Example("ashore backup init --nodes /mnt/a,/mnt/b,s3://backups/ashore --code 2+1", "any one may be lost"),
            Example("ashore backup run", "make one now"),
            Example("ashore backup status", "how many nodes may be lost now"),
            Example("ashore backup restore --nodes /mnt/a,/mnt/b --recovery-key recovery.key", "into an empty home"),
        ),
        "audit": (
            Example("ashore audit search --tenant bank-a --since 3h", "who asked what, newest first"),
            Example("ashore audit mine", "one's own requests of the last seven days"),
            Example("ashore audit request req_0a1b2c3d", "what became of a request of one's own"),
            Example("ashore audit verify", "check every record"),
            Example("ashore audit export out --form csv --since 2026-11-01", "for an auditor, with a signed manifest"),
        ),
        "secret": (
            Example("ashore secret list", "which secrets are sealed; shows no values"),
            Example("ashore secret seal --config ashore.toml --dry-run", "what would be sealed"),
        ),
        "privacy": (
            Example("ashore privacy mask letter.txt", "a text as a model would see it"),
            Example("ashore privacy policy show --toml", "the policy in force, as a file that set takes"),
            Example("ashore privacy query calls --what count", "a count with noise that hides each person"),
        ),
        "access": (
            Example("ashore access user create alice --role auditor", "a person with a key, which is shown only once"),
            Example("ashore access service create app --tenant bank-a --role developer", "a program"),
            Example("ashore access key create app --model smollm2 --expires 90d", "its key, for one model"),
            Example("ashore access key create --title laptop --expires 90d", "a key of your own"),
            Example("ashore access budget set tokens 1000000 --per day --tenant bank-a", "limit a tenant"),
            Example("ashore access can alice infer model/smollm2 --explain", "whether she may, and by which rule"),
            Example("ashore access usage --by tenant,day --csv", "usage as a table for billing"),
        ),
        "bench": (
            Example("ashore bench serve --concurrency 16", "16 users, each asking again once answered"),
            Example("ashore bench serve http://127.0.0.1:8000 --model m --rate 5", "any OpenAI server, 5 requests/s"),
        ),
        "config": (
            Example("ashore config example", "a file to start from: every key, commented out"),
            Example("ashore config show --config ashore.toml --changed", "what differs from the defaults, and why"),
        ),
        "deploy": (
            Example("ashore deploy render envoy --config ashore.toml", "the edge's configuration, with its reasons"),
            Example("ashore deploy render systemd --config /etc/ashore/ashore.toml", "a service that starts at boot"),
            Example("ashore deploy render compose --places places.toml --out compose", "containers on one machine"),
            Example("ashore deploy render k8s --places places.toml --out k8s --dry-run", "what would change in k8s/"),
            Example("ashore deploy check k8s --places places.toml", "ask your API server; it stores nothing"),
        ),
        "fleet": (
            Example(
                "ashore fleet join gpu-1 http://10.0.0.2:8101 --model chat", "a node that runs `ashore engine serve`"
            ),
            Example("ashore fleet status", "servers, nodes, and who uses which"),
            Example(
                "ashore fleet drain gpu-1 --wait 5m", "no new requests; return when the running ones have finished"
            ),
            Example("ashore fleet undrain gpu-1", "give it requests again"),
            Example("ashore fleet leave gpu-1", "remove it from the fleet"),
            Example(
                "ashore fleet certificate gpu-1 --address 10.0.0.2 --to ./gpu-1", "for its home, to be copied there"
            ),
            Example("ashore fleet ray smollm2 --alias chat --replicas 3 > chat.yaml", "the file for `serve deploy`"),
        ),
        "job": (
            Example("ashore model pull smollm2 --job", "have the server pull it; prints the id of the job"),
            Example("ashore job show op_0123456789abcdef --follow", "its progress and its log, until it ends"),
            Example("ashore job list --state running", "operations, batches and background answers"),
            Example("ashore job cancel batch_0123456789abcdef", "finished answers stay"),
        ),
        "events": (
            Example("ashore events --follow", "jobs and releases, as it happens"),
            Example("ashore events --after 120 --json", "what came behind that number"),
        ),
        "account": (
            Example("ashore account create alice", "print an invitation, with which alice chooses a password"),
            Example("ashore account reset alice", "for a lost password or telephone"),
            Example("ashore account list", "who logs in by a password, with second factor, lock and last log-in"),
        ),
        "server": (
            Example(
                "ashore server history --since 8h", "requests, tokens, waits and load, without a monitoring system"
            ),
            Example("ashore server config --changed", "what is in force, and where each value comes from"),
        ),
        "session": (
            Example("ashore session list --account alice", "where alice is in the console now"),
            Example("ashore session end ses_0123456789ab", "out within a second"),
            Example("ashore session link", "a one-time link into the console of this machine, at the beginning"),
        ),
        "completion": (Example("ashore completion install", "for the shell that you use"),),
    }
)
"""What each noun is for: the commands that one uses first."""

MORE: Final[Mapping[str, tuple[Example, ...]]] = MappingProxyType(
    {
        "drill": (
            Example("ashore drill show host-hung", "its fault, bounds, and what must hold"),
            Example("ashore drill run host-killed --dry-run", "what would be broken, and whether it is refused"),
            Example("ashore drill consent host-killed", "as a security officer, for one run within 24 hours"),
            Example("ashore drill schedule host-killed --every 30d", "due once a month; `run --due` runs it"),
            Example("ashore drill stop", "end the drill that runs, and undo what it broke"),
            Example("ashore drill report host-hung", "what came of its last run, in full"),
            Example("ashore drill reports --url https://ai.example.com", "the verdicts of a server elsewhere"),
            Example("ashore drill download host-killed > report.html", "the last report with its chart, over the API"),
        ),
        "learn": (
            Example("ashore learn dataset chat", "what a model would learn from now, and what is held back and why"),
            Example("ashore learn explain chat-0a1b2c3d4e5f", "who gave how many examples, and every line of the gate"),
            Example("ashore learn pause chat --why audit", "start no run; a running one ends after its step"),
            Example("ashore learn resume chat", "allow runs again"),
            Example("ashore learn revert chat", "go back to what answered before, and learn nothing more"),
            Example("ashore learn consent hr measure", "keep no texts with the votes of a tenant"),
            Example("ashore learn consents", "what was set for which tenant"),
            Example("ashore learn forget alice", "erase a person, and name the models that learned from them"),
        ),
        "doctor": (
            Example("ashore doctor rules", "every rule, and what it asks"),
            Example("ashore doctor --only disk,D513 --for 10s", "an area and a rule, measured for ten seconds"),
            Example("ashore doctor --since 1h", "over the last hour, by the looks that --watch kept"),
            Example("ashore doctor --watch", "what appears and what is gone, every minute"),
            Example("ashore doctor --url https://ai.example.com", "a server elsewhere, with a key for it"),
            Example("ashore doctor apply --rules D405", "one change, also where it is a setting of the kernel"),
            Example("ashore doctor changes", "the changes that were made"),
            Example("ashore doctor undo all", "undo them, the last one first"),
        ),
        "model": (
            Example("ashore model warm chat", "load a model on demand before the first request"),
            Example("ashore model cool chat --to s3", "unload it, and move its weights to the bucket of [tiers] cold"),
            Example("ashore model fetch smollm2@int8", "bring its weights back from the bucket, without a server"),
            Example("ashore model pin chat", "load it, and keep it in memory until unpin"),
            Example("ashore model unpin chat", "let it make room for others again"),
            Example("ashore model verify smollm2", "verify its files; without a name, those of all models"),
            Example("ashore model gc --dry-run", "what would be deleted, and how many bytes that frees"),
            Example("ashore model import smollm2.tar", "what ashore model export wrote on another machine"),
            Example("ashore model seal smollm2 --config ashore.toml", "encrypt its weights on the disk"),
            Example("ashore model unseal smollm2 --dry-run", "what would be decrypted"),
            Example("ashore model rekey --new-key", "re-encrypt all data keys with a new key; rewrites no weights"),
        ),
        "deploy": (
            Example("ashore deploy render image --out image", "the Containerfile, for buildah, podman or docker"),
            Example("ashore deploy render quadlet --out quadlet", "units of podman under systemd"),
            Example("ashore deploy render helm --places places.toml --out chart", "a Helm chart"),
            Example("ashore deploy render bundle --places places.toml --out bundle", "all forms, with checksums"),
        ),
        "release": (
            Example("ashore release list --alias chat", "the releases of one alias, the newest first"),
            Example("ashore release status chat --watch", "refreshed every second"),
            Example("ashore release show chat-2", "model, engine, adapters, state"),
            Example("ashore release evidence chat-2", "errors, latency and answers compared with the live release"),
            Example("ashore release burn chat-2", "how fast it uses up its objectives"),
            Example("ashore release pairs chat-2", "the most different answers side by side, masked"),
            Example(
                "ashore release retire chat-2 --why 'worse at tables'",
                "free its memory; the history keeps why",
            ),
        ),
        "alias": (
            Example("ashore alias show chat", "its releases and their weights"),
            Example("ashore alias history chat --limit 10", "its last ten steps, and who made them"),
            Example("ashore alias remove old-name", "requests that name it are refused from then on"),
        ),
        "backup": (
            Example("ashore backup list", "which backups there are to restore"),
            Example("ashore backup rehearse", "read and check what a restore would need; write nothing"),
            Example("ashore backup scrub --rate 50", "read at most 50 MB/s; rebuild what is damaged"),
            Example("ashore backup replace /mnt/b /mnt/c", "a new disk replaces a lost one"),
            Example("ashore backup confirm recovery.key", "try the recovery key on every node"),
            Example("ashore backup rekey --dry-run", "what a new recovery key would change"),
        ),
        "audit": (
            Example("ashore audit content worker-0#1042", "the sealed prompt and answer of one record"),
            Example("ashore audit erase alice --dry-run", "how many of her prompts and answers would be lost"),
            Example("ashore audit status", "how far the log goes, and how far it is signed"),
            Example("ashore audit search --since 3h --url https://ai.example.com", "of a server elsewhere, with a key"),
            Example("ashore audit archive --place s3://audit/a --after-days 30", "move what is older than a month"),
            Example("ashore audit rotate-key", "sign with a new key from now on"),
        ),
        "secret": (Example("ashore secret unseal --dry-run", "what would be decrypted"),),
        "privacy": (
            Example("ashore privacy detect letter.txt --tenant bank-a", "kinds and positions, never the values"),
            Example("ashore privacy policy set policy.toml --dry-run", "what the file would change"),
            Example("ashore privacy budget grant calls --epsilon 1", "what a dataset may lose; a security officer"),
            Example("ashore privacy budget consent calls --epsilon 4", "a second officer, before a large grant"),
            Example("ashore privacy budget list", "every budget, and what is left of it"),
            Example("ashore privacy budget show calls", "one of them"),
            Example("ashore privacy budget history calls", "who asked what, and what it cost"),
            Example("ashore privacy query calls --what mean --column minutes --low 0 --high 60", "a mean, bounded"),
            Example(
                "ashore privacy query calls --what quantile --column minutes --low 0 --high 60 --quantiles 0.5,0.95",
                "median and 95th percentile",
            ),
            Example(
                "ashore privacy query usage --what sum --column requests --high 1000 --by group --groups icu,er",
                "requests of each group; usage and votes are ready to be asked",
            ),
            Example("ashore privacy query calls --what histogram --column dept --groups icu,er --dry-run", "its cost"),
            Example("ashore privacy policy reset --replaces 3", "back to the policy of ashore.toml, from version 3"),
        ),
        "access": (
            Example("ashore access tenant list", "tenants, and which are disabled"),
            Example("ashore access tenant show bank-a", "one of them"),
            Example("ashore access tenant create bank-a --title 'Bank A'", "users, keys and budgets can belong to it"),
            Example("ashore access tenant disable bank-a --dry-run", "who would lose access"),
            Example("ashore access tenant enable bank-a", "its keys work again"),
            Example("ashore access user list --tenant bank-a", "people, and which are disabled"),
            Example("ashore access user show alice", "her tenant, groups and roles"),
            Example("ashore access user disable alice", "her keys and tokens stop working within one second"),
            Example("ashore access user enable alice", "they work again"),
            Example("ashore access user remove alice", "with her keys and roles; the audit log keeps what she did"),
            Example("ashore access service list", "programs"),
            Example("ashore access service show app", "its tenant, groups and roles"),
            Example("ashore access service disable app", "its keys stop working within one second"),
            Example("ashore access service enable app", "they work again"),
            Example("ashore access service remove app", "with its keys and roles"),
            Example("ashore access group list", "groups and their members"),
            Example("ashore access group show analysts", "one group and its members"),
            Example("ashore access group create analysts --title 'Risk analysts'", "an empty group"),
            Example("ashore access group add analysts alice app", "a user and a service account"),
            Example("ashore access group drop analysts app", "the account itself stays"),
            Example("ashore access group remove analysts --dry-run", "who would lose which roles"),
            Example("ashore access key list --owner app", "its keys, when last used, until when"),
            Example("ashore access key show ash_0123abcd", "what it may do, from where, until when"),
            Example("ashore access key rotate ash_0123abcd --overlap 7d", "both keys are valid for a week"),
            Example("ashore access key revoke ash_0123abcd", "refused everywhere within one second"),
            Example("ashore access role list", "built-in and custom roles"),
            Example("ashore access role show developer", "its rules, and who has it"),
            Example("ashore access role put chat-only --rule 'infer on model/chat'", "a role that may ask one model"),
            Example("ashore access role grant group/analysts chat-only", "every member has it from now on"),
            Example("ashore access role revoke group/analysts chat-only", "no member has it by the group any more"),
            Example("ashore access role holders", "who has which role"),
            Example("ashore access role actions", "what rules can name"),
            Example("ashore access role remove chat-only", "a custom role"),
            Example("ashore access policy show > policy.json", "the policy in force, as a file that apply takes"),
            Example("ashore access policy apply policy.json --dry-run", "what the file would change"),
            Example("ashore access policy history --limit 5", "the last five versions, and who made them"),
            Example("ashore access budget list", "every budget and its name"),
            Example("ashore access budget show b-0a1b2c3d4e5f", "used and left in this window"),
            Example("ashore access budget remove b-0a1b2c3d4e5f", "it no longer limits within 200 ms"),
            Example("ashore access consent alice", "let a security officer change this auditor's account for 24 hours"),
            Example("ashore access revive", "restore an office that nobody can use any more"),
            Example("ashore access revive --lost", "the same where the administrators lost their keys; revokes them"),
        ),
        "plan": (
            Example(
                "ashore plan size Qwen/Qwen3-32B --rate 2 --isl 1500 --osl 300 --ttft 2s --tpot 50ms", "what to buy"
            ),
            Example("ashore plan check --points points.csv", "how far the planner is from measurements"),
            Example("ashore plan calibrate report.json --model smollm2", "fit it to load tests of this machine"),
        ),
        "job": (
            Example("ashore job show batch_0123456789abcdef", "state, counts and times; never what is in it"),
            Example("ashore job again op_0123456789abcdef", "after an interruption"),
            Example("ashore job allowed op_0123456789abcdef", "a job of yours that waits is refused if this says no"),
            Example("ashore job webhook-secret --tenant bank-a", "the receiver verifies signatures with it"),
        ),
        "account": (
            Example("ashore account show alice", "state, second factor, lock and password age"),
            Example("ashore account disable alice", "no log-in and no session; keys keep working"),
            Example("ashore account enable alice", "as before"),
            Example("ashore account unlock alice", "after too many failed log-ins"),
        ),
        "server": (
            Example("ashore server logs", "which processes log, and since when nothing came"),
            Example("ashore server tail api --lines 100", "the end of a log, also from another machine"),
            Example("ashore server models", "models of the store with their variants"),
        ),
        "session": (Example("ashore session end-all alice", "every browser of alice is out within a second"),),
        "completion": (Example("ashore completion show zsh", "the script itself, to install by hand"),),
    }
)
"""The other commands of a noun."""
