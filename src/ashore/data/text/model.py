"""The text side of one model: tokens, chat template and answers."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from ashore.core.chat import Message, ToolSpec
from ashore.core.clock import Clock, SystemClock
from ashore.core.errors import InvalidRequest, UnsupportedModel
from ashore.core.foreign import foreign_errors
from ashore.data.text.answer import AnswerParser
from ashore.data.text.encoder import COUNTED_CHARS, MOST_UTF8_BYTES, Encoder
from ashore.data.text.fewest import FewestTokens
from ashore.data.text.gaps import gap_form_of
from ashore.data.text.guard import MARK, Guard, without_surrogates
from ashore.data.text.harmony import CHANNEL, MARKS, MESSAGE, HarmonyReader
from ashore.data.text.markup import THINK, THINK_END, MarkupReader, MarkupRules
from ashore.data.text.template import ChatTemplate
from ashore.data.text.toolsyntax import ToolForm, forms_of
from ashore.data.text.vocabulary import Vocabulary, read_vocabulary
from ashore.kit.textfile import read_model_text

_TOOLS = re.compile(r"\btools\b")


class GenerationFacts(msgspec.Struct, frozen=True):
    """`generation.json`: start and end tokens of a model, and the sampling that its makers recommend."""

    eos_token_ids: tuple[int, ...] = ()
    bos_token_id: int | None = None
    pad_token_id: int | None = None
    add_bos: bool = False
    defaults: dict[str, Any] = {}
    defaults_from: str = ""
    """`catalogue`, or empty: the model's own `generation_config.json`."""

    @property
    def defaults_told_by(self) -> str:
        """The source of the recommended defaults, for people; empty without recommendations."""
        return (self.defaults_from or "generation_config.json") if self.defaults else ""


class TextModel:
    """The text side of a model. Immutable; threads may share it.

    Texts and templates are bound to one model; ids of another model mean something else.
    """

    def __init__(
        self,
        encoder: Encoder,
        fewest: FewestTokens,
        vocabulary: Vocabulary,
        facts: GenerationFacts | None,
        template: ChatTemplate | None,
        template_source: str,
    ) -> None:
        """Combine the parts; `load` is the usual way."""
        self._encoder, self._vocabulary, self._template = encoder, vocabulary, template
        self._fewest = fewest
        self._is_encoder = facts is None
        self.facts = facts or GenerationFacts()
        self.eos_token_ids, self.bos_token_id = self.facts.eos_token_ids, self.facts.bos_token_id
        self.template_source = template_source
        self.sampling_defaults: Mapping[str, object] = self.facts.defaults
        self.sampling_defaults_from = self.facts.defaults_told_by
        self._table = vocabulary.table
        self._special = {t.id: t.text for t in vocabulary.added if t.special}
        self._skip = frozenset(self._special)
        texts = {t.text: t.id for t in vocabulary.added}
        self._gap = gap_form_of(texts)
        self._gap_guard = Guard(t for t in vocabulary.added if t.markup)
        ends = self._gap.ends if self._gap is not None else ()
        self.gap_stop_ids: Final[tuple[int, ...]] = tuple(texts[text] for text in ends if text in texts)
        """Tokens that end a fill-in-the-middle answer."""
        self._think_id = next((t.id for t in vocabulary.added if t.text == THINK), None)
        forms = forms_of(template_source, frozenset(t.text for t in vocabulary.added))
        self._rules = {False: MarkupRules(), True: MarkupRules(forms)}
        self._speaks_harmony = {CHANNEL, MESSAGE} <= texts.keys() and CHANNEL in template_source
        marks = MARKS if self._speaks_harmony else frozenset()
        self._chat_skip = {
            tools: frozenset(i for i, text in self._special.items() if text not in rules.markers | marks)
            for tools, rules in self._rules.items()
        }

    @classmethod
    def load(cls, directory: Path, *, clock: Clock | None = None) -> TextModel:
        """Read `tokenizer.json`, and `chat_template.jinja` and `generation.json` if present, from `directory`.

        A model without `generation.json` is an encoder: its `encode` puts `[CLS]` and `[SEP]` around the text.

        Raises:
            UnsupportedModel: there is no tokenizer, or a file cannot be read.
        """
        unknown = "it is damaged or not supported; pull the model from another source"
        with foreign_errors(f"the text files in {directory} cannot be read", UnsupportedModel, hint=unknown):
            return cls._read(directory, clock or SystemClock())

    @classmethod
    def _read(cls, directory: Path, clock: Clock) -> TextModel:
        spec = _read_spec(directory / "tokenizer.json")
        vocabulary = read_vocabulary(spec)
        facts = _read_facts(directory / "generation.json")
        markup = [t for t in vocabulary.added if t.markup]
        guard, own = Guard(markup), Guard(t for t in markup if t.special)
        source_file = directory / "chat_template.jinja"
        source = read_model_text(source_file).decode() if source_file.is_file() else ""
        template = None
        if source:
            template = ChatTemplate(
                source,
                name="the model's chat template",
                tokens=_token_texts(facts or GenerationFacts(), vocabulary),
                guard=guard,
                own=own,
                clock=clock,
            )
        fewest = FewestTokens(spec, vocabulary)
        return cls(Encoder(spec, vocabulary, guard), fewest, vocabulary, facts, template, source)

    @property
    def vocab_size(self) -> int:
        """Number of token ids in the tokenizer; the weights may have room for more."""
        return len(self._table)

    @property
    def knows_tools(self) -> bool:
        """Whether the template supports tools; otherwise the model never sees them."""
        return _TOOLS.search(self.template_source) is not None

    @property
    def tool_forms(self) -> tuple[ToolForm, ...]:
        """Possible forms of tool calls, the form that its template teaches first."""
        return self._rules[True].forms

    @property
    def special_token_ids(self) -> frozenset[int]:
        """Control tokens, which are never part of an answer's text."""
        return self._skip

    def encode(self, text: str, *, allow_special: bool = False, bare: bool = False) -> list[int]:
        """Return the tokens of a prompt, with the model's special tokens around it: BOS, or `[CLS]` and `[SEP]`.

        Args:
            text: The prompt.
            allow_special: Read `<|im_start|>` and the like as control tokens; otherwise they are plain text.
            bare: Omit special tokens around a prompt.
        """
        if self._is_encoder and not bare:
            return self.encode_for_embedding(text)
        ids = self._encoder.full(text) if allow_special else self._encoder.plain(text)
        bos = self.facts.bos_token_id
        if bare or not self.facts.add_bos or bos is None or (allow_special and ids[:1] == [bos]):
            return ids
        return [bos, *ids]

    def encode_for_embedding(self, text: str) -> list[int]:
        """Return the tokens of a text with the tokenizer's special tokens around it. Never truncated, never padded."""
        return self._encoder.plain(text, around=True)

    def encode_pairs(self, texts: Sequence[str], pairs: Iterable[tuple[int, int]]) -> Iterator[list[int]]:
        """Yield the tokens of pairs of texts that a cross-encoder reads together, given as indices, with the
        tokenizer's special tokens around and between them. Each text is read once. Never truncated, never padded."""
        return self._encoder.pairs(texts, pairs)

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of `ids` without control tokens. A partial character becomes U+FFFD."""
        if self._vocabulary.kind == "word_pieces":
            return self._encoder.decode_words(list(ids))
        size = len(self._table)
        text = b"".join(self._table[i] for i in ids if i not in self._skip and 0 <= i < size).decode("utf-8", "replace")
        return text.removeprefix(" ") if self._vocabulary.strips_first_space else text

    def token_bytes(self, token_id: int) -> bytes:
        """Return the bytes of one token; for control tokens those of their text, none for unknown ids."""
        return self._table[token_id] if 0 <= token_id < len(self._table) else b""

    def token_text(self, token_id: int) -> str:
        """Return one token as text, with U+FFFD where it is part of a character."""
        return self.token_bytes(token_id).decode("utf-8", "replace")

    def render_chat(
        self,
        messages: Sequence[Message],
        tools: Sequence[ToolSpec] = (),
        *,
        add_generation_prompt: bool = True,
        options: Mapping[str, object] = {},
    ) -> str:
        """Return a conversation rendered by the model's chat template.

        Raises:
            InvalidRequest: the model has no chat template, or it refuses the messages.
        """
        text = self._render(messages, tools, add_generation_prompt, options)
        return text.replace(MARK, "")

    def encode_chat(
        self,
        messages: Sequence[Message],
        tools: Sequence[ToolSpec] = (),
        *,
        add_generation_prompt: bool = True,
        continues: bool = False,
        options: Mapping[str, object] = {},
    ) -> list[int]:
        """Return the tokens of a conversation in the model's chat template. `continues`: the last message is the
        beginning of the answer, and nothing follows it.

        Control tokens come from the template alone: the same characters in a message are plain text. If no message has
        such characters, the rendered text is tokenised as a whole.

        Raises:
            InvalidRequest: the model has no chat template, or it refuses the messages.
        """
        if not continues:
            return self._encoder.marked(self._render(messages, tools, add_generation_prompt, options))
        opened = self._render(messages[:-1], tools, True, options)
        assert self._template is not None
        return self._encoder.marked(opened + self._template.begun(messages[-1], opened))

    def encode_gap(self, before: str, after: str) -> list[int]:
        """Return the tokens of a fill-in-the-middle prompt, in the form that the model was trained on.

        Raises:
            InvalidRequest: the model does not support it.
        """
        if self._gap is None:
            raise InvalidRequest(
                "this model was not trained to fill a gap: its tokenizer has no tokens for suffix",
                hint="leave suffix out, or use a coder model: DeepSeek-Coder, Qwen-Coder, CodeLlama, StarCoder",
                param="suffix",
            )
        shield, gap = self._gap_guard.shield, self._gap
        ids = self._encoder.marked(f"{gap.prefix}{shield(before)}{gap.suffix}{shield(after)}{gap.middle}")
        bos = self.facts.bos_token_id
        return [bos, *ids] if self.facts.add_bos and bos is not None else ids

    @property
    def thinks(self) -> bool:
        """Whether the template supports `<think>`."""
        return THINK_END in self.template_source

    def fewest_tokens(self, text: str, *, beyond: int) -> int:
        """Return a lower bound of a text's tokens, without tokenising all of it. Counting may stop just above
        `beyond`; 0 if no bound is certain."""
        fewest = self._fewest.tokens(text, beyond=beyond)
        if fewest > beyond:
            return fewest
        return max(fewest, self._encoder.counted(without_surrogates(text), beyond=beyond))

    def fewest_chat_tokens(
        self,
        messages: Sequence[Message],
        tools: Sequence[ToolSpec] = (),
        *,
        beyond: int,
        options: Mapping[str, object] = {},
    ) -> int:
        """Return the same for a conversation in the model's chat template, which may leave parts of it out.

        Raises:
            InvalidRequest: as for `encode_chat`.
        """
        num_chars = sum(len(message.content) + len(message.reasoning) for message in messages)
        num_chars += sum(len(call.arguments) for message in messages for call in message.tool_calls)
        num_chars += sum(len(tool.description) + len(tool.parameters) for tool in tools)
        is_long = num_chars >= COUNTED_CHARS and num_chars * MOST_UTF8_BYTES > beyond
        if self._template is None or not (is_long or self._fewest.may_exceed(num_chars, beyond)):
            return 0
        text = self._template.render(messages, tools, options=options, guarded=False)
        return self.fewest_tokens(text.replace(MARK, ""), beyond=beyond)

    def opens_reasoning(self, prompt_ids: Sequence[int]) -> bool:
        """Return whether a prompt ends inside `<think>`, so that the answer starts with reasoning."""
        tail = prompt_ids[-6:]
        if self._think_id is not None:
            if self._think_id not in tail:
                return False
            at = len(tail) - 1 - tail[::-1].index(self._think_id)
            return not b"".join(map(self.token_bytes, tail[at + 1 :])).strip()
        return b"".join(map(self.token_bytes, tail)).rstrip().endswith(THINK.encode())

    def answer_parser(
        self, *, stop: tuple[str, ...], tools: bool, chat: bool, prompt_opens_reasoning: bool = False
    ) -> AnswerParser:
        """Return a parser for one answer.

        Args:
            stop: Stop strings.
            tools: Tools were offered, so tool calls are parsed.
            chat: The prompt is a conversation, so reasoning is parsed; otherwise the answer is plain text.
            prompt_opens_reasoning: Result of `opens_reasoning` for the prompt.
        """
        tools = tools and chat
        skip = self._chat_skip[tools] if chat else self._skip
        return AnswerParser(
            table=self._table,
            skip=skip,
            markup=self._reader(tools, prompt_opens_reasoning) if chat else None,
            stop=stop,
            stop_ids={i: self._special[i] for i in skip if self._special[i] in stop} if stop else None,
            strip_first_space=chat and self._vocabulary.strips_first_space,
        )

    def _reader(self, tools: bool, opens_reasoning: bool) -> MarkupReader | HarmonyReader:
        if self._speaks_harmony:
            return HarmonyReader(self._rules[tools])
        return MarkupReader(self._rules[tools], opens_reasoning=opens_reasoning)

    def _render(
        self,
        messages: Sequence[Message],
        tools: Sequence[ToolSpec],
        add_generation_prompt: bool,
        options: Mapping[str, object],
    ) -> str:
        if self._template is None:
            raise InvalidRequest(
                "this model has no chat template, so it does not accept messages",
                hint="use /v1/completions",
                param="messages",
            )
        return self._template.render(messages, tools, add_generation_prompt=add_generation_prompt, options=options)


def _read_spec(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise UnsupportedModel(f"{path.parent} has no tokenizer.json", hint="pull the model again")
    with foreign_errors(f"{path} is not valid JSON", UnsupportedModel, hint="pull the model again"):
        spec = msgspec.json.decode(read_model_text(path))
    if not isinstance(spec, dict) or not isinstance(spec.get("model"), dict):
        raise UnsupportedModel(f"{path} has no tokenizer model in it", hint="pull the model again")
    return spec


def _read_facts(path: Path) -> GenerationFacts | None:
    if not path.is_file():
        return None
    with foreign_errors(f"{path} cannot be read", UnsupportedModel, hint="pull the model again"):
        return msgspec.json.decode(read_model_text(path), type=GenerationFacts)


def _token_texts(facts: GenerationFacts, vocabulary: Vocabulary) -> dict[str, str]:
    """Return the texts of tokens that templates use by name. Empty for a token that the model lacks."""

    def text(token_id: int | None) -> str:
        known = token_id is not None and 0 <= token_id < len(vocabulary.table)
        return vocabulary.table[token_id].decode("utf-8", "replace") if token_id is not None and known else ""

    return {
        "bos_token": text(facts.bos_token_id),
        "eos_token": text(facts.eos_token_ids[0] if facts.eos_token_ids else None),
        "pad_token": text(facts.pad_token_id),
        "unk_token": text(vocabulary.unknown_id),
    }
