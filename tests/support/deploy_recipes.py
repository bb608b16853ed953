"""Ten deployments, as an operator would write them, and versions of Kubernetes that they are for."""

# ruff: noqa: E501 - a line of a file is a line

from __future__ import annotations

from dataclasses import dataclass

VERSIONS = ("1.30", "1.34", "1.37")
IMAGE = 'reference = "registry.corp.example/ashore@sha256:' + "0" * 64 + '"'
VLLM = f'[image]\n{IMAGE}\nvllm = "registry.corp.example/vllm-openai:v0.20"\n'
MODELS = '[[volume]]\npath = "/models"\nclaim = "models"\n'
R1 = """
[[model]]
name = "hf:deepseek-ai/DeepSeek-R1"
alias = "r1"
replicas = 2
[model.engine]
kind = "vllm"
context_tokens = 32768
[model.engine.options]
tensor_parallel_size = 8
"""


@dataclass(frozen=True)
class Recipe:
    """One deployment."""

    config: str
    places: str = ""
    versions: tuple[str, ...] = VERSIONS


RECIPES = {
    "one-model": Recipe('[[model]]\nname = "smollm2"\n'),
    "edge": Recipe('[[model]]\nname = "smollm2"\n[edge]\nkind = "envoy"\n', '[kubernetes]\nservice = "LoadBalancer"\n'),
    "own-certificate": Recipe(
        '[[model]]\nname = "smollm2"\n[http]\nworkers = 2\n[edge]\nkind = "envoy"\n'
        'certificate = "pki/a.pem"\nkey = "pki/a.key"\n[redis]\nurl = "embedded"\n',
        '[kubernetes]\nclients = ["chat", "batch"]\nstorage_class = "fast"\naccess_mode = "ReadWriteOnce"\n',
    ),
    "shared": Recipe(
        '[[model]]\nname = "smollm2"\nalias = "chat"\nreplicas = 2\n[edge]\nkind = "envoy"\n'
        '[state]\nurl = "postgresql://ashore:pl4nted-state@db.corp.example/ashore"\n'
        '[redis]\nurl = "rediss://:pl4nted-redis@cache.corp.example:6380/0"\n[egress]\nallow = ["hooks.corp.example"]\n'
        '[audit]\nanchors = ["syslog+udp://10.9.9.9:1514", "s3://anchors/a"]\n',
        '[server]\nreplicas = 3\n[secrets]\nname = "ashore-prod"\n[secrets.keys]\nstate-url = "db"\n'
        '[[peer]]\nhost = "db.corp.example"\nnetwork = "10.0.5.0/24"\n'
        '[[peer]]\nhost = "cache.corp.example"\nnamespace = "cache"\nlabels = { app = "valkey" }\n'
        '[[peer]]\nhost = "hooks.corp.example"\nnetwork = "10.0.6.7/32"\n[[peer]]\nhost = "s3"\nnetwork = "10.0.7.0/24"\n',
    ),
    "vllm": Recipe(
        R1 + 'api_key = "pl4nted-vllm-key"\n', VLLM + MODELS + '[[model]]\nalias = "r1"\nweights = "/models/r1"\n'
    ),
    "spanning": Recipe(
        R1, VLLM + MODELS + '[[model]]\nalias = "r1"\nweights = "/models/r1"\nnodes = 2\n'
        'node_selector = { gpu = "h100" }\n[kubernetes]\ngpu_taint = false\n'
    ),
    "kserve": Recipe(
        R1 + "pipeline_parallel_size = 2\n",
        VLLM + MODELS + '[[model]]\nalias = "r1"\nweights = "/models/r1"\nnodes = 2\n[kubernetes]\nengines = "kserve"\n',
    ),
    "ray": Recipe(
        R1 + '[redis]\nurl = "redis://10.0.8.1:6379/0"\n',
        VLLM + MODELS + '[[model]]\nalias = "r1"\nweights = "/models/r1"\n[kubernetes]\nengines = "ray"\n',
    ),
    "cuda": Recipe(
        R1, f'[image]\n{IMAGE}\naccelerator = "cuda"\npull_secret = "registry"\n[server]\ngpus = 8\ncpus = 32\n'
        'memory = "256GiB"\n[kubernetes]\ngpu_resource = "nvidia.com/mig-3g.40gb"\nnode_selector = { gpu = "h100" }\n'
    ),
    "everything": Recipe(
        R1.replace("replicas = 2\n", "") + '[[model]]\nname = "/prepared/tone"\n[model.adapters]\ntone = "/prepared/lora"\n'
        '[sealing]\nkey = "transit:https://vault.corp.example/v1/transit/keys/ashore?token_file=/etc/vault-token"\n'
        '[egress]\nallow = ["vault.corp.example", "id.corp.example"]\n[backup]\nnodes = ["/mnt/a", "/mnt/b", "s3://b/c"]\n'
        '[[access.issuer]]\nname = "corp"\nissuer = "https://id.corp.example"\naudience = "ashore"\n'
        'jwks_url = "https://id.corp.example/keys"\n[[release.judge]]\nname = "shape"\nschema = "judge.json"\n'
        '[settings]\ndrain_timeout_s = 45\n',
        VLLM + '[server]\nname = "llm"\n[[volume]]\npath = "/models"\nimage = "registry.corp.example/models/r1:1"\n'
        '[[volume]]\npath = "/prepared"\nclaim = "prepared"\n[[volume]]\npath = "/mnt"\nclaim = "nas"\nread_only = false\n'
        '[[model]]\nalias = "r1"\nweights = "/models/r1"\n[[peer]]\nhost = "vault.corp.example"\nnetwork = "10.1.0.0/16"\n'
        '[[peer]]\nhost = "id.corp.example"\nnetwork = "10.2.0.0/16"\n[[peer]]\nhost = "s3"\nnetwork = "10.3.0.0/16"\n'
        '[kubernetes]\nversion = "1.35"\ncreate_namespace = true\nnamespace = "llm"\n',
        versions=("1.35", "1.36", "1.37"),
    ),
}  # fmt: skip
