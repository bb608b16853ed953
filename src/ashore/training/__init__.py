"""Training: training by gradients, and checkpoints in and out of the store.

Owns the loop that fine-tuning, healing and distilling go through, its data, and adapters. Refuses to know how a variant
is quantised or judged, and who may use it.

Where to add what:

- A kind of training: a `Loss` (and, where data is more than tokens, a `BatchSource`) given to `train`.
- A form of data: its suffix in `shards/naming.py`, its samples in `shards/samples.py`. A place: `shards/places.py`.
"""

from ashore.training.adapters import LoraOptions, add_lora
from ashore.training.attention import packed_attention
from ashore.training.batches import Batch, Corpus, PackedBatches, make_corpus
from ashore.training.checkpoints import load_checkpoint, save_checkpoint
from ashore.training.loop import LoopOptions, LoopResult, Precision, StepReport, Watcher, mean_loss, train
from ashore.training.losses import answer_loss, hidden_states
from ashore.training.memory import mlp_size
from ashore.training.private import FEW_UNITS, PrivateOptions
from ashore.training.privaterun import run_private
from ashore.training.runlog import LogBucket, LogLine, RunFigures, RunLogs
from ashore.training.runstate import RunState
from ashore.training.sft import SftRun
from ashore.training.sftmodel import SftPlan, SftReport, SftRequest
from ashore.training.sftplan import plan_sft
from ashore.training.shards.packing import SetLook
from ashore.training.shards.packing import look as look_at
from ashore.training.shards.packing import pack as pack_shards
from ashore.training.shards.trainingset import TrainingSet, load_data, open_set
from ashore.training.trainee import faster_precision
