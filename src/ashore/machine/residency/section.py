"""`[tiers]`: memory limits of models, and where unused ones are kept."""

from __future__ import annotations

from typing import Self

from ashore.core.errors import InvalidSpec
from ashore.kit.section import AtLeast0, Kept, Section


class TiersSection(Section, frozen=True, kw_only=True):
    """Where models lie: in memory, on a fast disk, in the store, in a bucket."""

    memory_bytes: Kept[AtLeast0] = 0
    """Memory that all models together may take, weights and KV caches; 0: what is free at the start, less 1 GiB."""
    most_loaded: Kept[AtLeast0] = 0
    """Most models on demand that are loaded at once; 0: as many as the memory holds. For engines whose memory ashore
    does not count, such as those on a GPU."""
    serve_pulled: bool = False
    """Serve every model of the store that no `[[model]]` names, on demand, under its name. `ashore model pull` then
    makes a model servable by a running server."""
    cold: Kept[str] = ""
    """`s3://BUCKET/PATH` for the weights of models that nobody uses; empty: they stay in the store. `ashore model cool
    --to s3` moves them there, and the next request brings them back."""

    prefix_bytes: Kept[AtLeast0] = 2 << 30
    """Disk for the KV cache of prompts that begin alike (`cache/prefixes` in the home), over all models: they survive a
    restart, by tenant, and encrypted. 0: none is kept there. For the engine `openvino`."""

    def checked(self, where: str) -> Self:
        if self.cold and not self.cold.startswith("s3://"):
            raise InvalidSpec(f"{where} cold = {self.cold!r}; expected s3://BUCKET/PATH", hint="name a bucket")
        return self
