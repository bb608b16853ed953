"""`ashore access`: tenants, users, service accounts, groups, keys, roles and the policy, by a server's admin API."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Annotated, Any

import cyclopts

from ashore.cli.accessask import Server, moment, show_key
from ashore.cli.accesspolicy import can, policy_app, role_app
from ashore.cli.budget import budget, usage
from ashore.cli.columns import table
from ashore.cli.sure import DryRun, Yes, go_ahead
from ashore.core import did_you_mean
from ashore.errors import InvalidRequest, NotFound

app = cyclopts.App(
    name="access",
    help=(
        "Who may come in, and what they may do.\n\n"
        "The first key of a home makes the three administrators (`user create NAME --role …` for each of "
        "system-administrator, security-officer and auditor), and then it is dead: go on with ASHORE_API_KEY."
    ),
)
tenant_app = cyclopts.App(name="tenant", help="Whom principals belong to.")
user_app = cyclopts.App(name="user", help="People.")
service_app = cyclopts.App(name="service", help="Service accounts: programs.")
group_app = cyclopts.App(name="group", help="Several accounts under one name.")
key_app = cyclopts.App(name="key", help="Keys of accounts: shown once, kept as digests.")
for _one in (tenant_app, user_app, service_app, group_app, key_app, role_app, policy_app):
    app.command(_one)
app.command(can, name="can")
app.command(budget)
app.command(usage, name="usage")

Json = Annotated[bool, cyclopts.Parameter(name="--json", negative=(), help="Print JSON.")]
Where = Annotated[Server, cyclopts.Parameter(name="*")]
Many = Annotated[tuple[str, ...], cyclopts.Parameter(negative=(), consume_multiple=True)]
Flag = Annotated[bool, cyclopts.Parameter(negative=())]
TenantName = Annotated[str, cyclopts.Parameter(help="Name of the tenant.")]
UserId = Annotated[str, cyclopts.Parameter(help="Id of the user: alice.")]
ServiceId = Annotated[str, cyclopts.Parameter(help="Id of the service account, as it stands in the record: app.")]
GroupName = Annotated[str, cyclopts.Parameter(help="Name of the group.")]
Account = Annotated[str, cyclopts.Parameter(help="Ids of users and service accounts: alice app.")]
Title = Annotated[str, cyclopts.Parameter(help="Name for people.")]
OneTenant = Annotated[str, cyclopts.Parameter(help="Only those of this tenant.")]
HERE = Server()


@app.command
def consent(user: Annotated[str, cyclopts.Parameter(help="Id of the auditor.")], /, *, server: Where = HERE) -> None:
    """Agree, for 24 hours, to what a security officer does to an auditor's account. For system administrators."""
    server.ask("POST", f"/users/{server.part(user)}/consent", {})
    print(f"you agree, for 24 hours, to what is done to the auditor {user}")


@app.command
def revive() -> None:
    """Give an office somebody again, where nobody with a valid key can use it any more.

    Takes away what denies everybody's administering, and makes a new first key on this machine where an office has
    no holder left. That key makes the administrators that are missing, and then it is dead again. The audit log
    keeps that this was done.
    """
    import platform

    from ashore.access import Acts, revive_first_key
    from ashore.bootstrap import command_recorder, open_state
    from ashore.core import SystemClock
    from ashore.settings import read_settings

    settings = read_settings()
    shared = settings.state_url and not settings.state_url.startswith("sqlite")
    state = open_state(settings, say=lambda line: print(line, file=sys.stderr))
    try:
        with command_recorder(settings.home) as recorder:
            acts = Acts(state, recorder, SystemClock())
            revived = revive_first_key(acts, settings.home.first_key, machine=platform.node() if shared else "")
    finally:
        state.close()
    for binding in revived.taken_away:
        print(f"{binding.subject} no longer has the role {binding.role}: it denied that anybody administers")
    if revived.missing:
        print(f"there is a new first key in {settings.home.first_key}; missing: {', '.join(revived.missing)}")
        print(f"next: `ashore access user create NAME --role {revived.missing[0]}`")


# --- tenants


@tenant_app.command(name="list")
def list_tenants(*, json_: Json = False, server: Where = HERE) -> None:
    """List tenants."""
    answer = server.ask("GET", "/tenants")
    if server.printed(answer, json_):
        return
    table(("name", "title", "state"), [(one["name"], one["title"], _state(one)) for one in answer["items"]])


@tenant_app.command(name="create")
def create_tenant(name: TenantName, /, *, title: Title = "", json_: Json = False, server: Where = HERE) -> None:
    """Make a tenant."""
    answer = server.ask("POST", "/tenants", {"name": name, "title": title})
    if not server.printed(answer, json_):
        print(f"the tenant {name} is there")


@tenant_app.command(name="disable")
def disable_tenant(name: TenantName, /, *, yes: Yes = False, dry_run: DryRun = False, server: Where = HERE) -> None:
    """Disable a tenant. Keys and tokens of its users and service accounts stop working within one second."""
    if dry_run:
        _known(name, [one["name"] for one in server.ask("GET", "/tenants")["items"]], "tenant")
    if not go_ahead(f"disable the tenant {name}: nobody of it is let in any more", yes=yes, dry_run=dry_run):
        return
    server.ask("PATCH", f"/tenants/{server.part(name)}", {"disabled": True})
    print(f"nobody of the tenant {name} is let in")


@tenant_app.command(name="enable")
def enable_tenant(name: TenantName, /, *, server: Where = HERE) -> None:
    """Let the people of a tenant in again."""
    server.ask("PATCH", f"/tenants/{server.part(name)}", {"disabled": False})
    print(f"the tenant {name} is enabled")


# --- users and service accounts


def _create(
    noun: str, account: str, tenant: str, title: str, group: tuple[str, ...], role: tuple[str, ...],
    key: dict[str, Any] | None, json_: bool, server: Server,
) -> None:  # fmt: skip
    body = {"id": account, "tenant": tenant, "title": title, "groups": group, "roles": role, "key": key}
    answer = server.ask("POST", f"/{noun}", body)
    if server.printed(answer, json_):
        return
    told = f"{answer['account']['kind']}/{account} is there" + (f", with {', '.join(role)}" if role else "")
    print(told, file=sys.stderr if answer["key"] else sys.stdout)
    if answer["key"]:
        show_key(answer["key"])


@user_app.command(name="create")
def create_user(
    user: str, /, *, tenant: str = "default", title: str = "", group: Many = (), role: Many = (), no_key: Flag = False,
    json_: Json = False, server: Where = HERE,
) -> None:  # fmt: skip
    """Make a user, and a key for them, which is shown this once.

    Args:
        user: Id, as it stands in the record: alice.
        tenant: Whom they belong to.
        title: Name for people.
        group: Groups they are in.
        role: Roles they have.
        no_key: Make no key.
        json_: Print JSON.
        server: The server to ask.
    """
    _create("users", user, tenant, title, group, role, None if no_key else {}, json_, server)


@service_app.command(name="create")
def create_service(
    service: str, /, *, tenant: str = "default", title: str = "", group: Many = (), role: Many = (),
    json_: Json = False, server: Where = HERE,
) -> None:  # fmt: skip
    """Make a service account; `ashore access key create` makes its keys.

    Args:
        service: Id, as it stands in the record: app.
        tenant: Whom it belongs to.
        title: Name for people.
        group: Groups it is in.
        role: Roles it has.
        json_: Print JSON.
        server: The server to ask.
    """
    _create("service-accounts", service, tenant, title, group, role, None, json_, server)


def _list(noun: str, tenant: str, json_: bool, server: Server) -> None:
    answer = {"items": server.pages(f"/{noun}", {"tenant": tenant} if tenant else {})}
    if server.printed(answer, json_):
        return
    rows = [(one["id"], one["tenant"], ", ".join(one["groups"]), _state(one), one["title"]) for one in answer["items"]]
    table(("id", "tenant", "groups", "state", "title"), rows)


def _show(noun: str, account: str, json_: bool, server: Server) -> None:
    answer = server.ask("GET", f"/{noun}/{server.part(account)}")
    if server.printed(answer, json_):
        return
    one = answer["account"]
    print(f"{one['kind']}/{one['id']}  {one['title']}".rstrip())
    print(f"  tenant {one['tenant']}, {_state(one)}, since {moment(one['created_at'])}")
    print(f"  groups: {', '.join(one['groups']) or 'none'}")
    print(f"  roles: {', '.join(answer['roles']) or 'none'}")


def _change(noun: str, account: str, body: dict[str, Any], told: str, server: Server) -> None:
    server.ask("PATCH", f"/{noun}/{server.part(account)}", body)
    print(told)


def _disable(noun: str, account: str, yes: bool, dry_run: bool, server: Server) -> None:
    if dry_run and ":" not in account:  # somebody of an issuer has no account before they are disabled
        server.ask("GET", f"/{noun}/{server.part(account)}")
    if go_ahead(f"disable {account}: keys and tokens stop working within one second", yes=yes, dry_run=dry_run):
        _change(noun, account, {"disabled": True}, f"{account} is disabled", server)


def _remove(noun: str, account: str, yes: bool, dry_run: bool, server: Server) -> None:
    if dry_run:
        server.ask("GET", f"/{noun}/{server.part(account)}")
    if not go_ahead(f"remove {account}, revoke its keys and take its roles away", yes=yes, dry_run=dry_run):
        return
    server.ask("DELETE", f"/{noun}/{server.part(account)}")
    print(f"{account} is removed; what it did stays in the record")


def _known(name: str, names: Iterable[str], noun: str) -> None:
    """Raise `NotFound` with a near name where a dry run names what is not there; without it the server says so."""
    names = list(names)
    if name not in names:
        raise NotFound(f"there is no {noun} {name[:100]!r}", hint=did_you_mean(name[:100], names))


@user_app.command(name="list")
def list_users(*, tenant: OneTenant = "", json_: Json = False, server: Where = HERE) -> None:
    """List users."""
    _list("users", tenant, json_, server)


@user_app.command(name="show")
def show_user(user: UserId, /, *, json_: Json = False, server: Where = HERE) -> None:
    """Show a user and the roles they have."""
    _show("users", user, json_, server)


@user_app.command(name="disable")
def disable_user(user: UserId, /, *, yes: Yes = False, dry_run: DryRun = False, server: Where = HERE) -> None:
    """Disable a user. Keys and tokens stop working within one second."""
    _disable("users", user, yes, dry_run, server)


@user_app.command(name="enable")
def enable_user(user: UserId, /, *, server: Where = HERE) -> None:
    """Let a user in again."""
    _change("users", user, {"disabled": False}, f"{user} is enabled", server)


@user_app.command(name="remove")
def remove_user(user: UserId, /, *, yes: Yes = False, dry_run: DryRun = False, server: Where = HERE) -> None:
    """Remove a user, with their keys and roles."""
    _remove("users", user, yes, dry_run, server)


@service_app.command(name="list")
def list_services(*, tenant: OneTenant = "", json_: Json = False, server: Where = HERE) -> None:
    """List service accounts."""
    _list("service-accounts", tenant, json_, server)


@service_app.command(name="show")
def show_service(service: ServiceId, /, *, json_: Json = False, server: Where = HERE) -> None:
    """Show a service account and the roles it has."""
    _show("service-accounts", service, json_, server)


@service_app.command(name="disable")
def disable_service(service: ServiceId, /, *, yes: Yes = False, dry_run: DryRun = False, server: Where = HERE) -> None:
    """Disable a service account. Its keys stop working within one second."""
    _disable("service-accounts", service, yes, dry_run, server)


@service_app.command(name="enable")
def enable_service(service: ServiceId, /, *, server: Where = HERE) -> None:
    """Let a service account in again."""
    _change("service-accounts", service, {"disabled": False}, f"{service} is enabled", server)


@service_app.command(name="remove")
def remove_service(service: ServiceId, /, *, yes: Yes = False, dry_run: DryRun = False, server: Where = HERE) -> None:
    """Remove a service account, with its keys and roles."""
    _remove("service-accounts", service, yes, dry_run, server)


# --- groups


@group_app.command(name="list")
def list_groups(*, json_: Json = False, server: Where = HERE) -> None:
    """List groups with who is in them."""
    answer = server.ask("GET", "/groups")
    if server.printed(answer, json_):
        return
    table(("name", "members", "title"), [(o["name"], ", ".join(o["members"]), o["title"]) for o in answer["items"]])


@group_app.command(name="create")
def create_group(name: GroupName, /, *, title: Title = "", json_: Json = False, server: Where = HERE) -> None:
    """Make a group."""
    answer = server.ask("POST", "/groups", {"name": name, "title": title})
    if not server.printed(answer, json_):
        print(f"the group {name} is there")


def _members(name: str, body: dict[str, Any], json_: bool, server: Server) -> None:
    answer = server.ask("POST", f"/groups/{server.part(name)}/members", body)
    if not server.printed(answer, json_):
        print(f"in {name}: {', '.join(answer['items']) or 'nobody'}")


@group_app.command(name="add")
def add_members(name: GroupName, /, *accounts: Account, json_: Json = False, server: Where = HERE) -> None:
    """Put accounts into a group."""
    _members(name, {"add": accounts}, json_, server)


@group_app.command(name="drop")
def drop_members(name: GroupName, /, *accounts: Account, json_: Json = False, server: Where = HERE) -> None:
    """Take accounts out of a group."""
    _members(name, {"remove": accounts}, json_, server)


@group_app.command(name="remove")
def remove_group(name: GroupName, /, *, yes: Yes = False, dry_run: DryRun = False, server: Where = HERE) -> None:
    """Remove a group; its accounts stay."""
    if dry_run:
        _known(name, [one["name"] for one in server.ask("GET", "/groups")["items"]], "group")
    if not go_ahead(f"remove the group {name} and the roles that it gives", yes=yes, dry_run=dry_run):
        return
    server.ask("DELETE", f"/groups/{server.part(name)}")
    print(f"the group {name} is removed")


# --- keys


@key_app.command(name="list")
def list_keys(*, owner: str = "", tenant: str = "", json_: Json = False, server: Where = HERE) -> None:
    """List keys: whose, when used last, until when. Everybody may list their own with --owner.

    Args:
        owner: Only those of this account, by its id: alice.
        tenant: Only those of this tenant.
        json_: Print JSON.
        server: The server to ask.
    """
    asked = {name: value for name, value in (("owner", owner), ("tenant", tenant)) if value}
    answer = {"items": server.pages("/keys", asked)}
    if server.printed(answer, json_):
        return
    rows = [
        (one["id"], one["owner"], one["tenant"], _key_state(one), moment(one["last_used_at"]), one["title"])
        for one in answer["items"]
    ]
    table(("id", "owner", "tenant", "state", "last used", "title"), rows)


@key_app.command(name="create")
def create_key(
    owner: str, /, *, title: str = "", model: Many = (), action: Many = (), network: Many = (), expires: str = "",
    json_: Json = False, server: Where = HERE,
) -> None:  # fmt: skip
    """Make a key for a user or service account, which is shown this once.

    Args:
        owner: Id of the user or service account: alice.
        title: What it is for.
        model: Aliases it is for, chat or deepseek-*; none: all that its owner may ask.
        action: Actions it is for, infer; none: all that its owner may do.
        network: Networks it may be used from, 10.1.0.0/16; none: anywhere.
        expires: After how long it ends: 90d, 12h; none: never.
        json_: Print JSON.
        server: The server to ask.
    """
    body = {"owner": owner, "title": title, "models": model, "actions": action, "networks": network}
    answer = server.ask("POST", "/keys", body | ({"expires_in_s": seconds_of(expires)} if expires else {}))
    if not server.printed(answer, json_):
        show_key(answer)


@key_app.command(name="rotate")
def rotate_key(key: str, /, *, overlap: str = "24h", json_: Json = False, server: Where = HERE) -> None:
    """Make a key in place of another; both open until the overlap is over.

    Args:
        key: Its id, ash_ and eight characters. Everybody may rotate the key that they use.
        overlap: How long the old one goes on: 24h, 7d, 0s.
        json_: Print JSON.
        server: The server to ask.
    """
    answer = server.ask("POST", f"/keys/{server.part(key)}/rotate", {"overlap_s": seconds_of(overlap)})
    if not server.printed(answer, json_):
        show_key(answer)


@key_app.command(name="revoke")
def revoke_key(
    key: str, /, *, yes: Yes = False, dry_run: DryRun = False, json_: Json = False, server: Where = HERE
) -> None:
    """Revoke a key. It stops working everywhere within one second, and cannot be restored.

    Args:
        key: Its id, ash_ and eight characters.
        yes: Do not ask. Needed where there is no terminal.
        dry_run: Say what would be done, and do nothing.
        json_: Print JSON.
        server: The server to ask.
    """
    whose = ""
    if dry_run:
        owners = {one["id"]: one["owner"] for one in server.pages("/keys", {})}
        _known(key, owners, "key")
        whose = f" of {owners[key]}"
    if not go_ahead(f"revoke the key {key}{whose} for good", yes=yes, dry_run=dry_run, as_json=json_):
        return
    answer = server.ask("DELETE", f"/keys/{server.part(key)}")
    if not server.printed(answer, json_):
        print(f"{answer['id']} of {answer['owner']} opens nothing any more")


def seconds_of(text: str) -> int:
    """Return the seconds in `90d`, `12h`, `30m` or `45s`.

    Raises:
        InvalidRequest: it is no such time.
    """
    units = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
    number, unit = text[:-1], text[-1:]
    if unit not in units or not (number.isascii() and number.isdigit()):
        raise InvalidRequest(f"{text!r} is no time", hint="90d, 12h, 30m or 45s")
    return int(number) * units[unit]


def _state(one: dict[str, Any]) -> str:
    return "disabled" if one["disabled"] else "enabled"


def _key_state(key: dict[str, Any]) -> str:
    if key["revoked_at"] is not None:
        return f"ended {moment(key['revoked_at'])}"
    return "valid" if key["expires_at"] is None else f"until {moment(key['expires_at'])}"
