"""Training: what changes weights by gradients, and checkpoints in and out of the store.

Owns the loop that fine-tuning, healing and distilling go through, its data, and adapters. Refuses to know how a variant
is quantised or judged, and who may use it.

Where to add what:

- A kind of training: a `Loss` (and, where data is more than tokens, a `BatchSource`) given to `train`.
"""

from ashore.training.adapters import LoraOptions, add_lora
from ashore.training.attention import packed_attention
from ashore.training.batches import Batch, BatchSource, Corpus, PackedBatches, make_corpus
from ashore.training.checkpoints import load_checkpoint, save_checkpoint
from ashore.training.data import TrainingData, load_data
from ashore.training.datalines import ChatExample, CompletionExample, Example, TextExample, read_examples
from ashore.training.loop import LoopOptions, LoopResult, Loss, Precision, StepReport, Watcher, mean_loss, train
from ashore.training.losses import answer_loss, hidden_states
from ashore.training.memory import Method
from ashore.training.runstate import RunState
from ashore.training.sft import SftMaker, SftRun, peak_memory_bytes
from ashore.training.sftmodel import SftPlan, SftReport, SftRequest
from ashore.training.sftplan import plan_sft
from ashore.training.trainee import MAKER

__all__ = [
    "MAKER",
    "Batch",
    "BatchSource",
    "ChatExample",
    "CompletionExample",
    "Corpus",
    "Example",
    "LoopOptions",
    "LoopResult",
    "LoraOptions",
    "Loss",
    "Method",
    "PackedBatches",
    "Precision",
    "RunState",
    "SftMaker",
    "SftPlan",
    "SftReport",
    "SftRequest",
    "SftRun",
    "StepReport",
    "TextExample",
    "TrainingData",
    "Watcher",
    "add_lora",
    "answer_loss",
    "hidden_states",
    "load_checkpoint",
    "load_data",
    "make_corpus",
    "mean_loss",
    "packed_attention",
    "peak_memory_bytes",
    "plan_sft",
    "read_examples",
    "save_checkpoint",
    "train",
]
