"""What a sync changes. Pure: what ashore knows and what the directory says in, steps out.

A person gets an account when they are first seen in a mapped group. They are disabled when the directory disabled them,
has them no more, or has them in no mapped group; nobody is ever deleted. A new person with the login of another one
gets another account: keys and history belong to people, not to names.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final, Literal

from ashore.control.directory.reading import Seen, Snapshot
from ashore.core.counted import counted
from ashore.core.errors import Conflict, InvalidRequest
from ashore.data.authority import Account, check_account_id

FEW: Final = 3
"""As many people may be disabled by one sync, whatever share of all they are: a small house has people leave, too."""
MOST_NAMESAKES: Final = 100

State = Literal["in", "disabled", "gone"]
"""How the directory has a person, whatever groups they are in."""
Word = Literal["add", "change", "disable", "enable"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """A person of a directory whom ashore knows."""

    guid: str
    account: str
    login: str
    """As last seen. An account keeps its id when this changes."""
    state: State = "in"


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One change of one account."""

    word: Word
    person: Person
    account: Account
    """As it is afterwards."""
    why: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decided:
    """What a sync is to do."""

    steps: tuple[Step, ...]
    """Those that take something away come first."""
    left_out: tuple[str, ...] = ()
    """People who get no account, and why."""


def decide(
    directory: str,
    tenant: str,
    known: Mapping[str, Person],
    accounts: Mapping[str, Account],
    taken: Collection[str],
    snapshot: Snapshot,
    *,
    most_gone: float,
    now_s: int,
) -> Decided:
    """Return what a sync is to do.

    Args:
        directory: Its name.
        tenant: Tenant of new accounts.
        known: People whom ashore knows, by GUID.
        accounts: Every account of the directory, by id.
        taken: Ids that belong to somebody whom this directory does not know.
        snapshot: What the directory says.
        most_gone: Share of the enabled people that may be disabled; 1: any.
        now_s: Now.

    Raises:
        Conflict: more would be disabled. Nothing may be changed then.
    """
    steps = [step for person in known.values() if (step := _of_known(person, accounts, snapshot, now_s)) is not None]
    out = [step for step in steps if step.word == "disable"]
    enabled = sum(person.account in accounts and not accounts[person.account].shut_s for person in known.values())
    if len(out) > max(FEW, int(most_gone * enabled)) or (len(out) == enabled > 1 and most_gone < 1):
        raise Conflict(
            f"the directory {directory} would disable {len(out)} of {counted(enabled, 'person', 'people')}, so nothing "
            f"was changed; most_gone is {most_gone:.0%}",
            hint=f"look at `ashore directory sync {directory} --dry-run --even-so`; if it is right, run it without "
            "--dry-run",
        )
    ids, left_out = {*taken, *(person.account for person in known.values())}, []
    for one in sorted(snapshot.people.values(), key=lambda one: one.login):
        if one.guid in known or one.disabled or not one.groups:
            continue
        try:
            account_id = _free_id(f"{directory}:{one.login}", ids)
        except InvalidRequest as fault:
            left_out.append(f"{one.dn}: {fault.message}")
            continue
        ids.add(account_id)
        person = Person(guid=one.guid, account=account_id, login=one.login)
        account = accounts.get(account_id) or Account(id=account_id, tenant=tenant, created_s=now_s)
        account = replace(account, title=one.title, given_groups=one.groups, shut_s=0)
        is_namesake = account_id != f"{directory}:{one.login}"
        why = f"another person has the login {one.login}" if is_namesake else ""
        steps.append(Step(word="add", person=person, account=account, why=why))
    return Decided(steps=(*out, *(step for step in steps if step.word != "disable")), left_out=tuple(left_out))


def _of_known(person: Person, accounts: Mapping[str, Account], snapshot: Snapshot, now_s: int) -> Step | None:
    """Return what changes for a person whom ashore knows; None: nothing."""
    account, one = accounts.get(person.account), snapshot.people.get(person.guid)
    if account is None:  # a security officer removed it, so it stays removed
        return None
    why = why_out(one)
    groups = one.groups if one is not None and not why else frozenset[str]()
    after = replace(account, given_groups=groups, shut_s=(account.shut_s or now_s) if why else 0)
    now = replace(person, state=state_of(one))
    if one is not None:
        after, now = replace(after, title=one.title), replace(now, login=one.login)
    if after == account and now == person:
        return None
    word: Word = "change"
    if bool(after.shut_s) != bool(account.shut_s):
        word = "disable" if after.shut_s else "enable"
    return Step(word=word, person=now, account=after, why=why)


def state_of(one: Seen | None) -> State:
    """Return how the directory has a person."""
    if one is None:
        return "gone"
    return "disabled" if one.disabled else "in"


def why_out(one: Seen | None) -> str:
    """Return why a person may not be let in; empty: they may."""
    if one is None:
        return "the directory has them no more"
    if one.disabled:
        return "the directory disabled them"
    return "" if one.groups else "they are in no mapped group"


def _free_id(wanted: str, taken: Collection[str]) -> str:
    """Return the id of a new person."""
    for number in range(1, MOST_NAMESAKES):
        account_id = wanted if number == 1 else f"{wanted}+{number}"
        check_account_id(account_id, "user")
        if account_id not in taken:
            return account_id
    raise InvalidRequest(f"{MOST_NAMESAKES - 1} people had the login {wanted}", hint="give people other logins")


def changes_of(decided: Decided) -> Iterator[str]:
    """Yield what a sync is to do, in words."""
    for step in decided.steps:
        groups = ", ".join(sorted(step.account.given_groups)) or "no groups"
        yield f"{step.word} {step.account.id}: {step.why or groups}"
    for one in decided.left_out:
        yield f"leave out {one}"
