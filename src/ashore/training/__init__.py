"""Training: what changes weights by gradients, and checkpoints in and out of the store.

Owns the loop that fine-tuning, healing and distilling go through, its data, and adapters. Refuses to know how a variant
is quantised or judged, and who may use it.

Where to add what:

- A kind of training: a `Loss` (and, where data is more than tokens, a `BatchSource`) given to `train`.
"""

from ashore.training.adapters import LoraOptions, add_lora
from ashore.training.attention import packed_attention
from ashore.training.batches import Batch, Corpus, PackedBatches, make_corpus
from ashore.training.checkpoints import load_checkpoint, save_checkpoint
from ashore.training.data import load_data
from ashore.training.loop import LoopOptions, LoopResult, Loss, StepReport, Watcher, mean_loss, train
from ashore.training.losses import answer_loss, hidden_states
from ashore.training.runstate import RunState
from ashore.training.sft import SftMaker, SftRun
from ashore.training.sftmodel import SftPlan, SftReport, SftRequest
from ashore.training.sftplan import plan_sft
from ashore.training.trainee import MAKER

__all__ = [
    "MAKER",
    "Batch",
    "Corpus",
    "LoopOptions",
    "LoopResult",
    "LoraOptions",
    "Loss",
    "PackedBatches",
    "RunState",
    "SftMaker",
    "SftPlan",
    "SftReport",
    "SftRequest",
    "SftRun",
    "StepReport",
    "Watcher",
    "add_lora",
    "answer_loss",
    "hidden_states",
    "load_checkpoint",
    "load_data",
    "make_corpus",
    "mean_loss",
    "packed_attention",
    "plan_sft",
    "save_checkpoint",
    "train",
]
