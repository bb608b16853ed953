"""Training: training by gradients, and checkpoints in and out of the store.

Owns the loop that fine-tuning, healing and distilling go through, its data, and adapters. Refuses to know how a variant
is quantised or judged, and who may use it.

Where to add what:

- A kind of training: a `Loss` (and, where data is more than tokens, a `BatchSource`) given to `train`.
- A form of data: its suffix in `shards/naming.py`, its samples in `shards/samples.py`. A place: `shards/places.py`.
"""

from ashore.lab.training.adapters import LoraOptions, add_lora
from ashore.lab.training.attention import packed_attention
from ashore.lab.training.batches import Batch, Corpus, PackedBatches, make_corpus
from ashore.lab.training.checkpoints import load_checkpoint, save_checkpoint
from ashore.lab.training.loop import LoopOptions, LoopResult, Precision, StepReport, Watcher, mean_loss, train
from ashore.lab.training.losses import answer_loss, hidden_states
from ashore.lab.training.memory import mlp_size
from ashore.lab.training.private import FEW_UNITS, PrivateOptions
from ashore.lab.training.privaterun import run_private
from ashore.lab.training.runlog import LogBucket, LogLine, RunFigures, RunLogs
from ashore.lab.training.runstate import RunState
from ashore.lab.training.sft import SftRun
from ashore.lab.training.sftmodel import SftPlan, SftReport, SftRequest
from ashore.lab.training.sftplan import plan_sft
from ashore.lab.training.shards.packing import SetLook
from ashore.lab.training.shards.packing import look as look_at
from ashore.lab.training.shards.packing import pack as pack_shards
from ashore.lab.training.shards.trainingset import TrainingSet, load_data, open_set
from ashore.lab.training.trainee import faster_precision
