"""Sealing: data on disk is encrypted, its keys are elsewhere, and plaintext is only in memory.

Owns: the format of a sealed file, data keys and their envelopes, sources of key-encryption keys, clear files in memory,
small secrets. Refuses: knowledge of models and their files.

Where to add what:

- A place that keeps sealing keys: a class with the `KeyKeeper` methods here, its kind in kit/sealing/ports.py, a form
  and a case in kit/sealing/keysource.py, machine/config/document.py where it is remote (`[egress]`), and a parameter in
  tests/contract/test_sealing_keepers.py.
"""

from ashore.kit.sealing.box import SecretBox
from ashore.kit.sealing.chunks import (
    CHUNK_BYTES,
    SALT_BYTES,
    TAG_BYTES,
    Header,
    authenticated,
    cipher_of,
    derive,
    nonce_of,
    read_header,
)
from ashore.kit.sealing.chunks import HEADER_BYTES as SEALED_HEADER_BYTES
from ashore.kit.sealing.datakeys import (
    MAX_ENVELOPE_BYTES,
    DataKey,
    DataKeys,
    close_envelope,
    is_key_id,
    new_data_key,
    open_envelope,
    read_envelope,
)
from ashore.kit.sealing.keyfile import is_ours_alone, read_secret_file
from ashore.kit.sealing.ports import KeyKeeper, Wrapped
from ashore.kit.sealing.secretfolder import ENVELOPE as ENVELOPE_FILE
from ashore.kit.sealing.secretfolder import OpenEnvelope, SecretFolder, opened_by_keeper, opened_by_link
from ashore.kit.sealing.statesecrets import (
    are_secrets_sealed,
    hold_secrets_key,
    rewrap_secrets,
    seal_secrets,
    secret_rows,
    secrets_by_link,
    unseal_secrets,
)
