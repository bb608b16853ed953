"""The model store: models as content-addressed blobs of an OCI layout, their sources, and their integrity.

Owns what lies under `store/` and the links under `run/models/`. Refuses: knowledge of engines and releases (callers
pass the digests to keep), and weights that can run code.

Where to add what:

- A model of the catalogue, and what its makers recommend for sampling: kit/store/catalog.toml (`CatalogEntry` in
  kit/store/catalog.py; `with_recommended` in kit/store/conversion/generation.py and, at a request,
  data/path/recommended.py).
- A model source: a file in store/sources/, and a case in `open_source` of its `__init__`.
- A reader of files that others made: its errors are translated in `foreign_errors` (core/foreign.py);
  what becomes a path passes kit/store/layout.py, a digest kit/store/refs.py, a shape
  kit/store/conversion/checkedshape.py; a case in tests/unit/test_hostile_files.py and a target in
  tests/fuzz/targets.py (`make fuzz`).
- Something to keep beside a model: `ModelStore.attach` with a kind of its own, and no text in it (docs/adr/0016).
"""

from ashore.kit.store.catalog import Catalog, CatalogEntry
from ashore.kit.store.conversion.bf16 import read_tensors
from ashore.kit.store.conversion.ggufmeta import gguf_reader, read_gguf_meta
from ashore.kit.store.conversion.ggufstate import read_gguf_state
from ashore.kit.store.conversion.ggufwriting import Outgoing, write_tensors
from ashore.kit.store.conversion.pooling import EMBEDDING, Embedding
from ashore.kit.store.conversion.safetensorsgguf import CONVERTED, Packing, convert_safetensors_to_gguf
from ashore.kit.store.copies import AttachedCopy, BlobCopy, ModelCopy
from ashore.kit.store.diskerrors import disk_errors
from ashore.kit.store.layout import write_atomic as write_file
from ashore.kit.store.model import DERIVED, TEXT, TEXT_FILES, Attachment, StoredModel
from ashore.kit.store.ports import ManifestRemote
from ashore.kit.store.progress import Progress, silent
from ashore.kit.store.recipe import DATA_SUFFIXES, DataUsed, VariantRecipe, data_used, set_digest, versions_of
from ashore.kit.store.refs import made_name, parse_reference, pruned_name
from ashore.kit.store.reports import ModelFilesOnDisk, RekeyReport
from ashore.kit.store.service import ModelStore
from ashore.kit.store.sources import (
    Endpoints,
    changed_since,
    check_local,
    is_path,
    is_source,
    name_of_source,
    open_source,
    pip_addresses,
)
from ashore.kit.store.verdicts import Verdict, VerdictLine, gate_verdict, keep_verdict
