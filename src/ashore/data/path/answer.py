"""Turns the tokens of one sequence into text, reasoning, tool calls and log-probabilities. Pure; one object per
choice.
"""

from __future__ import annotations

from collections.abc import Sequence

from ashore.core.errors import EngineFailed
from ashore.data.engines import EngineEvent, Finished, Moved, Rung, Token, TokenLogprob
from ashore.data.path.model import ChoiceEnded, CutBy, Delta, FinishReason, Scored, TokenText, ToolCallDelta
from ashore.data.path.ports import AnswerParserLike, AnswerPieceLike, ServedText


class Answer:
    """One choice of a growing answer."""

    def __init__(
        self,
        choice: int,
        text: ServedText,
        parser: AnswerParserLike,
        *,
        logprobs: bool,
        tokens_by_id: bool = False,
        scored: bool = False,
        one_call: bool = False,
        cut_by: CutBy = "",
    ) -> None:
        """Create the choice.

        Args:
            choice: Its index.
            text: The text side of the model.
            parser: Splits its tokens into text, reasoning and tool calls.
            logprobs: Whether to report each token with its id and log-probability.
            tokens_by_id: Whether they are named `token_id:N`.
            scored: Whether to report its likelihood at the end.
            one_call: Whether it ends before a second call of a tool.
            cut_by: Why it is cut when it uses up its tokens.
        """
        self._tokens_by_id = tokens_by_id
        self._one_call = one_call
        self._cut_by = cut_by
        self._choice = choice
        self._text = text
        self._parser = parser
        self._logprobs = logprobs
        self._scored = scored
        self.ids: list[int] = []
        """The generated tokens."""
        self.moves: list[tuple[str, str]] = []
        """The replicas, or servers behind one, that it was lost on, each with the one where it went on."""
        self._logprob = 0.0
        self._called_tool = False
        self.prompt_tokens: int | None = None
        """As a server that takes text counted them; None: as this side did."""
        self.completion_tokens = 0
        self.reasoning_tokens = 0
        self.accepted_tokens = self.rejected_tokens = 0
        self.cached_tokens = 0
        self.precisions: tuple[str, ...] = ()
        """Rungs that computed it, for an engine with rungs; each less exact than the one before."""
        self.ended: ChoiceEnded | None = None

    def take(self, events: Sequence[EngineEvent]) -> Delta | None:
        """Add the tokens of events that came together; return the released delta, or None if nothing is released.

        A stop string, or a second tool call where only one is allowed, sets `ended` and drops the tokens after it.
        """
        text = reasoning = ""
        calls: tuple[ToolCallDelta, ...] = ()
        logprobs: list[TokenText] = []
        push = self._parser.push
        for token in events:
            if not isinstance(token, Token):
                if isinstance(token, Rung):
                    self.precisions += (token.precision,)
                    continue
                if isinstance(token, Moved):
                    self.moves.append((token.lost, token.to))
                    continue
                break
            piece = push(token.token_id)
            self.completion_tokens += 1
            self.accepted_tokens += token.accepted
            self.rejected_tokens += token.rejected
            if self.completion_tokens == 1:
                self.cached_tokens = token.cached_tokens
            if piece.text:
                text += piece.text
            if piece.reasoning:
                reasoning += piece.reasoning
                self.reasoning_tokens += 1
            if piece.tool_calls:
                calls += self._calls(piece)
                if self._one_call and piece.tool_calls[-1].index > 0:
                    self.ended = ChoiceEnded(choice=self._choice, reason="tool_calls")
                    break
            self.ids.append(token.token_id)
            if self._scored:
                self._logprob += token.logprob or 0.0
            if self._logprobs:
                logprobs.append(self._token_text(token))
            if piece.stopped:
                self.ended = ChoiceEnded(choice=self._choice, reason="stop", stop_string=piece.stop_string)
                break
        return self._delta(text, reasoning, calls, logprobs)

    def finish(self, finished: Finished) -> Delta | None:
        """End the choice as the engine reports; return the text held back."""
        if not self.moves:  # where it moved, the prompt includes a part of the answer
            self.cached_tokens = finished.cached_tokens
        if self.ended is not None:
            return None
        if finished.reason == "cancelled":
            raise EngineFailed("the engine host cancelled the answer", hint="send it again")
        self.completion_tokens = max(self.completion_tokens, finished.completion_tokens)
        piece = self._parser.finish()
        calls = self._calls(piece)
        reason: FinishReason = "tool_calls" if self._called_tool and finished.reason == "stop" else finished.reason
        cut_by = self._cut_by if finished.reason == "length" else ""
        self.ended = ChoiceEnded(
            choice=self._choice, reason=reason, stop_token_id=finished.stop_token_id, cut_by=cut_by
        )
        return self._delta(piece.text, piece.reasoning, calls, [])

    def cut(self, cut_by: CutBy) -> Delta | None:
        """Cut the choice here; return the text held back."""
        piece = self._parser.finish()
        calls = self._calls(piece)
        self.ended = ChoiceEnded(choice=self._choice, reason="length", cut_by=cut_by)
        return self._delta(piece.text, piece.reasoning, calls, [])

    @property
    def scored(self) -> Scored | None:
        """The likelihood of the choice, if requested."""
        return Scored(ids=tuple(self.ids), logprob=self._logprob) if self._scored and self.ids else None

    def _calls(self, piece: AnswerPieceLike) -> tuple[ToolCallDelta, ...]:
        if not piece.tool_calls:
            return ()
        self._called_tool = True
        return tuple(
            ToolCallDelta(index=c.index, id=c.id or "", name=c.name or "", arguments=c.arguments or "")
            for c in piece.tool_calls
            if c.index == 0 or not self._one_call
        )

    def _delta(
        self, text: str, reasoning: str, calls: tuple[ToolCallDelta, ...], logprobs: list[TokenText]
    ) -> Delta | None:
        if not (text or reasoning or calls or logprobs):
            return None
        return Delta(choice=self._choice, text=text, reasoning=reasoning, tool_calls=calls, logprobs=tuple(logprobs))

    def _token_text(self, token: Token) -> TokenText:
        return TokenText(
            text=self._named(token.token_id),
            token_id=token.token_id,
            raw=self._text.token_bytes(token.token_id),
            logprob=token.logprob if token.logprob is not None else 0.0,
            top=tuple(self._alternative(t) for t in token.top),
        )

    def _alternative(self, one: TokenLogprob) -> tuple[str, bytes, float]:
        return self._named(one.token_id), self._text.token_bytes(one.token_id), one.logprob

    def _named(self, token_id: int) -> str:
        return f"token_id:{token_id}" if self._tokens_by_id else self._text.token_text(token_id)
