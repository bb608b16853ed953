"""The model store: models as content-addressed blobs of an OCI layout, their sources, and their integrity.

Owns what lies under `store/` and the links under `run/models/`. Refuses: knowledge of engines and releases (callers
pass the digests to keep), and weights that can run code.

Where to add what:

- A model of the catalogue, and what its makers recommend for sampling: store/catalog.toml (`CatalogEntry` in
  store/catalog.py; `with_recommended` in store/conversion/generation.py and, at a request, serving/recommended.py).
- A model source: a file in store/sources/, and a case in `open_source` of its `__init__`.
- A reader of files that others made: its errors are translated in `foreign_errors` (core/foreign.py);
  what becomes a path passes store/paths.py, a digest store/refs.py, a shape store/conversion/checkedshape.py; a case
  in tests/unit/test_hostile_files.py and a target in tests/fuzz/targets.py (`make fuzz`).
- Something to keep beside a model: `ModelStore.attach` with a kind of its own, and no text in it (docs/adr/0016).
"""

from ashore.store.catalog import Catalog, CatalogEntry
from ashore.store.conversion.bf16 import read_tensors
from ashore.store.conversion.dequantise import dequantise, is_quantised
from ashore.store.conversion.ggufmeta import gguf_reader, read_gguf_meta
from ashore.store.conversion.ggufstate import read_gguf_state
from ashore.store.conversion.pooling import EMBEDDING, Embedding
from ashore.store.conversion.safetensorsgguf import convert_safetensors_to_gguf
from ashore.store.copies import AttachedCopy, BlobCopy, ModelCopy
from ashore.store.diskerrors import disk_errors
from ashore.store.layout import write_atomic as write_file
from ashore.store.model import DERIVED, TEXT, TEXT_FILES, Attachment, StoredModel
from ashore.store.ports import ManifestRemote
from ashore.store.progress import Progress, silent
from ashore.store.recipe import DATA_SUFFIXES, DataUsed, VariantRecipe, data_used, set_digest, versions_of
from ashore.store.refs import made_name, parse_reference, pruned_name
from ashore.store.reports import BadFile, ModelFilesOnDisk, RekeyReport
from ashore.store.service import ModelStore
from ashore.store.sources import Endpoints, check_local, is_source, name_of_source, open_source, pip_addresses
from ashore.store.verdicts import Verdict, VerdictLine, gate_verdict, keep_verdict
