"""Training: training by gradients, and checkpoints in and out of the store.

Owns the loop that fine-tuning, healing and distilling go through, its data, and adapters. Refuses to know how a variant
is quantised or judged, and who may use it.

Where to add what:

- A kind of training: a `Loss` (and, where data is more than tokens, a `BatchSource`) given to `train`.
- A form of data: its suffix in `shards/naming.py`, its samples in `shards/samples.py`. A place: `shards/places.py`.
"""

from ashore.training.adapters import LoraOptions, add_lora
from ashore.training.attack import Access, AdapterNotes, Planted, attack_scores, plant, read_notes
from ashore.training.attention import packed_attention
from ashore.training.batches import Batch, Corpus, PackedBatches, make_corpus
from ashore.training.checkpoints import load_checkpoint, save_checkpoint
from ashore.training.loop import LoopOptions, LoopResult, Loss, Precision, StepReport, Watcher, mean_loss, train
from ashore.training.losses import answer_loss, hidden_states
from ashore.training.memory import mlp_size
from ashore.training.private import FEW_UNITS, PrivateOptions
from ashore.training.privaterun import PrivateReport, run_private
from ashore.training.runlog import LogBucket, LogLine, RunFigures, RunLogs
from ashore.training.runstate import RunState
from ashore.training.sft import SftMaker, SftRun
from ashore.training.sftmodel import SftPlan, SftReport, SftRequest
from ashore.training.sftplan import plan_sft
from ashore.training.shards.packing import Packed, SetLook, first_samples
from ashore.training.shards.packing import look as look_at
from ashore.training.shards.packing import pack as pack_shards
from ashore.training.shards.trainingset import TrainingSet, load_data, open_set
from ashore.training.trainee import MAKER, faster_precision

__all__ = [
    "FEW_UNITS",
    "MAKER",
    "Access",
    "AdapterNotes",
    "Batch",
    "Corpus",
    "LogBucket",
    "LogLine",
    "LoopOptions",
    "LoopResult",
    "LoraOptions",
    "Loss",
    "Packed",
    "PackedBatches",
    "Planted",
    "Precision",
    "PrivateOptions",
    "PrivateReport",
    "RunFigures",
    "RunLogs",
    "RunState",
    "SetLook",
    "SftMaker",
    "SftPlan",
    "SftReport",
    "SftRequest",
    "SftRun",
    "StepReport",
    "TrainingSet",
    "Watcher",
    "add_lora",
    "answer_loss",
    "attack_scores",
    "faster_precision",
    "first_samples",
    "hidden_states",
    "load_checkpoint",
    "load_data",
    "look_at",
    "make_corpus",
    "mean_loss",
    "mlp_size",
    "open_set",
    "pack_shards",
    "packed_attention",
    "plan_sft",
    "plant",
    "read_notes",
    "run_private",
    "save_checkpoint",
    "train",
]
