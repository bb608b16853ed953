"""The text side of a model: tokens, chat templates, and answers split into text, reasoning and tool calls.

Owns: `tokenizer.json`, `chat_template.jinja` and `generation.json` of a stored model. Refuses: weights, engines,
requests. Engines see token ids only; all text is handled here, once.
"""

from ashore.data.text.model import GenerationFacts, TextModel
from ashore.data.text.pieces import AnswerPiece
from ashore.data.text.textonly import TextOnly
