"""`ashore chat`: talk to a model in the terminal, here or at another address."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import cyclopts

from ashore.cli.chatscreen import History, Screen, read_question
from ashore.cli.target import find_target
from ashore.core.errors import AshoreError, InvalidRequest, UnknownModel

if TYPE_CHECKING:
    from ashore.cli.chatclient import ChatClient, Conversation

app = cyclopts.App(name="chat", help="Talk to a model, here or at another address.")

LEAVE: Final = ("/exit", "/quit", "/bye")
HELP: Final = """\
/system [TEXT]          show or set the system prompt ("/system -" removes it)
/reset                  clear the conversation
/retry                  ask the last question again
/model [NAME]           show or change the model
/params [NAME [VALUE]]  show, set or remove ("unset") a request field, such as temperature
/up  /down              rate the last answer
/fix TEXT               correct the last answer: what it should have been
/stats                  turn tokens and speed after each answer on or off
/save FILE  /load FILE  save the conversation, or continue a saved one
/exit                   leave (Ctrl-D too); Ctrl-C stops an answer
A line that ends in \\ continues on the next line."""


@app.default
def chat(
    model: str | None = None,
    /,
    *,
    url: str | None = None,
    key: str | None = None,
    system: str = "",
    temperature: float | None = None,
    max_tokens: int | None = None,
    stats: bool = False,
) -> int:
    """Talk to a model. Piped input is one question: `echo hi | ashore chat`. A line that is a command, such as /reset
    or /exit, ends the question and runs as in a terminal.

    Args:
        model: Model to talk to; default: the first that the server offers.
        url: Address of any OpenAI-compatible server; default: the server of this home.
        key: API key; default: ASHORE_API_KEY, or this home's first key for loopback addresses.
        system: System prompt.
        temperature: 0 is greedy; default: the server's.
        max_tokens: Longest answer, in tokens.
        stats: Show tokens and speed after each answer.
    """
    from ashore.cli.chatclient import ChatClient, Conversation

    target = find_target(url, key=key)
    with closing(ChatClient(target)) as client:
        conversation = Conversation(model=choose_model(client.models(), model), system=system)
        for name, value in (("temperature", temperature), ("max_tokens", max_tokens)):
            if value is not None:
                conversation.params[name] = value
        screen = Screen(show_stats=stats)
        if not sys.stdin.isatty():
            return answer_pipe(client, conversation, screen)
        return Session(client, conversation, screen).run()


def choose_model(names: list[str], wanted: str | None) -> str:
    """Return the model to talk to.

    Raises:
        UnknownModel: there is none of that name.
        NotReady: there is none at all.
    """
    from ashore.cli.chatclient import no_model
    from ashore.core.nearest import did_you_mean

    if not names:
        raise no_model()
    if wanted is None:
        return names[0]
    if wanted not in names:
        raise UnknownModel(f"the server has no model called {wanted!r}", hint=did_you_mean(wanted, names))
    return wanted


def answer_pipe(client: ChatClient, conversation: Conversation, screen: Screen) -> int:
    """Answer what standard input holds, as one question; a line that is a command ends it and is done.

    Raises:
        AshoreError: a question was not answered, or a command failed; nothing after it is read.
    """
    session = Session(client, conversation, screen)
    block: list[str] = []
    used = False
    for line in (*sys.stdin, ""):
        word = line.split(maxsplit=1)[0] if line.strip() else ""
        if line and word not in (*session.commands, *LEAVE):
            block.append(line)
            continue
        question = "".join(block).strip()
        block = []
        used = used or bool(line or question)
        if question:
            ask(client, conversation, screen, question)
        if not line or word in LEAVE:
            break
        session.command(line.strip())
    if not used:
        raise InvalidRequest("standard input is empty", hint="echo 'a question' | ashore chat")
    return 0


def ask(client: ChatClient, conversation: Conversation, screen: Screen, question: str) -> bool:
    """Ask and show the answer; return whether it came to its end.

    Ctrl-C ends the answer; what came of it stays in the conversation. Of a failed or empty one nothing stays but the
    question, for `/retry`.
    """
    from ashore.cli.chatclient import Stats, Turn

    conversation.turns.append(Turn(role="user", content=question))
    stats = Stats()
    text = ""
    whole = False
    pieces = client.ask(conversation, stats)
    try:
        for piece in pieces:
            text += piece.text
            screen.piece(piece.text, piece.reasoning)
        whole = True
    except KeyboardInterrupt:
        pieces.close()  # type: ignore[attr-defined]
        if not sys.stdin.isatty():
            raise
    except AshoreError:
        conversation.turns.pop()
        conversation.unanswered = question
        raise
    finally:
        screen.end(stats, stopped=not whole)
    conversation.unanswered = None
    conversation.answer_id = stats.answer_id if whole else ""
    if text:
        conversation.turns.append(Turn(role="assistant", content=text))
    else:
        conversation.unanswered = conversation.turns.pop().content
    return whole


class Session:
    """The prompt: lines in, answers and commands out."""

    def __init__(self, client: ChatClient, conversation: Conversation, screen: Screen) -> None:
        self.client = client
        self.conversation = conversation
        self.screen = screen
        self.commands: dict[str, Callable[[str], None]] = {
            "/help": self._help,
            "/system": self._system,
            "/reset": self._reset,
            "/save": self._save,
            "/load": self._load,
            "/model": self._model,
            "/retry": self._retry,
            "/params": self._params,
            "/stats": self._stats,
            "/up": partial(self._vote, "up"),
            "/down": partial(self._vote, "down"),
            "/fix": self._fix,
        }

    def run(self) -> int:
        """Read and answer until /exit or Ctrl-D."""
        self.screen.note(f"{self.conversation.model}; /help lists the commands, /exit leaves")
        with History():
            while (line := read_question()) is not None:
                if not self.take(line):
                    break
        return 0

    def take(self, line: str) -> bool:
        """Act on one line; return whether to go on."""
        line = line.strip()
        try:
            if line in LEAVE:
                return False
            if line.startswith("/"):
                self.command(line)
            elif line:
                ask(self.client, self.conversation, self.screen, line)
        except AshoreError as error:
            self.screen.note(f"error: {error.message}" + (f"\nhint: {error.hint}" if error.hint else ""))
        return True

    def command(self, line: str) -> None:
        """Act on a line that begins with a slash. Raises `InvalidRequest` where there is no such command."""
        from ashore.core.nearest import did_you_mean

        name, _, rest = line.partition(" ")
        action = self.commands.get(name)
        if action is None:
            raise InvalidRequest(f"unknown command {name}", hint=did_you_mean(name, self.commands))
        action(rest.strip())

    def _help(self, _: str) -> None:
        self.screen.note(HELP)

    def _system(self, text: str) -> None:
        if text:
            self.conversation.system = "" if text == "-" else text
        self.screen.note(f"system prompt: {self.conversation.system or '(none)'}")

    def _reset(self, _: str) -> None:
        self.conversation.turns.clear()
        self.conversation.answer_id = ""
        self.screen.note("conversation cleared")

    def _save(self, path: str) -> None:
        if not path:
            raise InvalidRequest("/save needs a file name")
        self.conversation.save(Path(path))
        self.screen.note(f"saved to {path}")

    def _load(self, path: str) -> None:
        if not path:
            raise InvalidRequest("/load needs a file name")
        self.conversation.load(Path(path))
        self.screen.note(f"{len(self.conversation.turns)} messages loaded")

    def _model(self, name: str) -> None:
        names = self.client.models()
        if name:
            self.conversation.model = choose_model(names, name)
        self.screen.note(f"model: {self.conversation.model} (offered: {', '.join(names)})")

    def _retry(self, _: str) -> None:
        question = self.conversation.take_back()
        if question is None:
            raise InvalidRequest("there is no question to retry yet")
        ask(self.client, self.conversation, self.screen, question)

    def _params(self, words: str) -> None:
        name, _, value = words.partition(" ")
        if name and value:
            self.conversation.set_param(name, value.strip())
        params = self.conversation.params
        shown = {name: params.get(name, "(unset)")} if name else params
        self.screen.note(", ".join(f"{k}={v}" for k, v in shown.items()) or "no request fields are set")

    def _vote(self, rating: str, _: str) -> None:
        self._say({"rating": rating})

    def _fix(self, text: str) -> None:
        if not text:
            raise InvalidRequest("/fix needs the text that the answer should have been")
        self._say({"correction": text})

    def _say(self, said: dict[str, str]) -> None:
        if not self.conversation.answer_id:
            raise InvalidRequest("there is no answer to vote on yet")
        why = self.client.vote({"id": self.conversation.answer_id, **said})
        self.screen.note(
            why or "kept: the vote, with question and answer, personal data masked; a model can learn from it"
        )

    def _stats(self, _: str) -> None:
        self.screen.show_stats = not self.screen.show_stats
        self.screen.note(f"tokens and speed after each answer: {'on' if self.screen.show_stats else 'off'}")
