"""Which rule decides: tables of cases, the offices kept apart, the auditor, and equality with casbin."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from fnmatch import fnmatchcase

import casbin
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ashore.core.errors import InvalidRequest, PermissionDenied, Unauthenticated
from ashore.core.ids import TenantId
from ashore.data.authority import (
    ACTIONS,
    BUILT_IN,
    OFFICERS,
    Account,
    Binding,
    Claims,
    Compiled,
    Directory,
    KeyRecord,
    KeyScope,
    Policy,
    PolicyAuthority,
    Principal,
    Role,
    Rule,
    Tenant,
    parse_rule,
    raised_by,
)
from ashore.data.authority.policy import check_policy


def who(
    name: str = "alice", *, tenant: str = "bank-a", groups: Sequence[str] = (), roles: Sequence[str] = ()
) -> Principal:
    return Principal(id=name, tenant=TenantId(tenant), groups=frozenset(groups), roles=frozenset(roles))


def role(name: str, *rules: str) -> Role:
    return Role(name=name, rules=tuple(parse_rule(rule) for rule in rules))


def policy(*roles: Role, **bindings: str) -> Policy:
    bound = tuple(
        Binding(subject.replace("__", "/"), name) for subject, names in bindings.items() for name in names.split()
    )
    return check_policy(Policy(roles=roles, bindings=bound), BUILT_IN)


SECRET = "deny infer on model/deepseek-secret"
READER = role("reader", "infer on model/chat", "infer on model/deepseek-*", "deny infer on model/deepseek-secret")


@pytest.mark.parametrize(
    ("bindings", "principal", "action", "resource", "allowed", "rule"),
    [
        ({}, who(), "infer", "model/chat", False, ""),
        ({"user__alice": "reader"}, who(), "infer", "model/chat", True, "infer on model/chat"),
        ({"user__alice": "reader"}, who(), "infer", "model/chats", False, ""),
        ({"user__alice": "reader"}, who(), "infer", "model/deepseek-v3", True, "infer on model/deepseek-*"),
        ({"user__alice": "reader"}, who(), "infer", "model/deepseek-secret", False, SECRET),
        ({"user__alice": "reader"}, who(), "metrics:read", "server", False, ""),
        ({"user__alice": "reader"}, who("bob"), "infer", "model/chat", False, ""),
        ({"service__alice": "reader"}, who(), "infer", "model/chat", False, ""),
        ({"group__dev": "reader"}, who(groups=["dev"]), "infer", "model/chat", True, "infer on model/chat"),
        ({"tenant__bank-a": "reader"}, who(), "infer", "model/chat", True, "infer on model/chat"),
        ({"tenant__bank-a": "reader"}, who(tenant="bank-b"), "infer", "model/chat", False, ""),
        ({"everyone": "viewer"}, who(), "metrics:read", "server", True, "metrics:read on *"),
        ({"user__alice": "developer reader"}, who(), "infer", "model/deepseek-secret", False, SECRET),
        ({}, who(roles=["developer"]), "infer", "model/x", True, "infer on *"),
        ({}, who(roles=["no-such-role"]), "infer", "model/x", False, ""),
    ],
)  # fmt: skip
def test_the_rule_that_decides(
    bindings: dict[str, str], principal: Principal, action: str, resource: str, allowed: bool, rule: str
) -> None:
    decision = Compiled(policy(READER, **bindings)).decide(principal, action, resource)
    assert (decision.allowed, decision.rule) == (allowed, rule)
    assert decision.why


def test_a_refusal_names_principal_action_resource_and_rule() -> None:
    authority = PolicyAuthority(policy(READER, user__alice="reader"))
    authority.require(who(), "infer", "model/chat")
    with pytest.raises(PermissionDenied) as caught:
        authority.require(who(), "infer", "model/deepseek-secret")
    for words in ("alice", "infer", "model/deepseek-secret", "role reader"):
        assert words in caught.value.message
    assert (caught.value.action, caught.value.resource) == ("infer", "model/deepseek-secret")
    assert "user/alice" in caught.value.hint


@pytest.mark.parametrize(
    ("scope", "action", "resource", "allowed"),
    [
        (KeyScope(), "infer", "model/a", True),
        (KeyScope(models=("a", "b-*")), "infer", "model/a", True),
        (KeyScope(models=("a", "b-*")), "infer", "model/b-1", True),
        (KeyScope(models=("a",)), "infer", "model/ab", False),
        (KeyScope(models=("a",)), "metrics:read", "server", True),
        (KeyScope(actions=("infer",)), "infer", "model/a", True),
        (KeyScope(actions=("infer",)), "metrics:read", "server", False),
        (KeyScope(actions=("audit:*",)), "audit:search", "server", False),
    ],
)
def test_a_key_narrows_and_never_adds(scope: KeyScope, action: str, resource: str, allowed: bool) -> None:
    one = replace(who(roles=["developer", "viewer"]), scope=scope)
    compiled = Compiled(Policy())
    assert compiled.decide(one, action, resource).allowed == allowed
    assert compiled.holds(one, "infer") == (not scope.actions or "infer" in scope.actions)


@pytest.mark.parametrize(
    ("networks", "origin", "admitted"),
    [
        ((), "8.8.8.8", True),
        (("10.0.0.0/8",), "10.1.2.3", True),
        (("10.0.0.0/8",), "11.1.2.3", False),
        (("10.0.0.0/8",), "::ffff:10.1.2.3", True),
        (("10.0.0.0/8", "2001:db8::/32"), "2001:db8::1", True),
        (("10.0.0.0/8",), "", False),
        (("127.0.0.0/8",), "", True),
        (("10.0.0.0/8",), "10.0.0.1, 8.8.8.8", False),
        (("0.0.0.0/0",), "not an address", False),
    ],
)
def test_networks_of_a_key(networks: tuple[str, ...], origin: str, admitted: bool) -> None:
    assert KeyScope(networks=networks).admits(origin) == admitted


def test_a_resource_of_any_length_and_form_is_shown_short_and_on_one_line() -> None:
    authority = PolicyAuthority(policy())
    for name in ("x" * 1_000_000, "a\nb\x1b[31m", "\u202e" * 500):
        with pytest.raises(PermissionDenied) as caught:
            authority.require(who(), "infer", f"model/{name}")
        for text in (caught.value.message, caught.value.hint, caught.value.resource):
            assert len(text) < 800 and text.isprintable()
    assert all(len(resource) <= 300 for _, _, resource in authority.compiled._decided)


# --- the three offices


def test_no_built_in_role_has_two_offices_and_each_action_of_an_office_is_in_its_role() -> None:
    by_name = {one.name: one for one in BUILT_IN}
    for one in BUILT_IN:
        assert len(one.offices) <= 1, one.name
    for name, office in zip(OFFICERS, ("system", "security", "audit"), strict=True):
        assert by_name[name].offices == {office}
        for action in ACTIONS:
            if action.office == office:
                assert Rule("allow", action.name, "*") in by_name[name].rules, action.name


def test_the_auditor_reads_everything_and_changes_nothing() -> None:
    compiled = Compiled(policy(user__ann="auditor"))
    for action in ACTIONS:
        allowed = compiled.decide(who("ann"), action.name, "server").allowed
        expected = action.is_read or action.office == "audit" or action.name.startswith("key:")
        assert allowed == expected, action.name


def test_no_rule_denies_the_auditor() -> None:
    silence = role("silence", "deny audit:* on *", "deny metrics:read on *", "deny key:rotate-own on *")
    compiled = Compiled(policy(silence, user__ann="auditor silence", everyone="silence", tenant__t="silence"))
    decision = compiled.decide(who("ann", tenant="t"), "audit:search", "server")
    assert decision.allowed and "cannot be denied" in decision.why
    assert not compiled.decide(who("bob", tenant="t"), "metrics:read", "server").allowed


@pytest.mark.parametrize("pair", [(a, b) for a in OFFICERS for b in OFFICERS if a < b])
def test_nobody_is_given_two_offices(pair: tuple[str, str]) -> None:
    with pytest.raises(InvalidRequest, match="would hold the offices"):
        policy(user__eve=" ".join(pair))


@pytest.mark.parametrize("pair", [(a, b) for a in OFFICERS for b in OFFICERS if a != b])
def test_two_offices_that_come_together_by_groups_or_claims_count_for_nothing(pair: tuple[str, str]) -> None:
    compiled = Compiled(policy(user__eve=pair[0], group__g=pair[1], everyone="viewer"))
    for eve in (who("eve", groups=["g"]), who("eve", roles=[pair[1]])):
        for name in ("access:write", "model:pull", "audit:content"):
            decision = compiled.decide(eve, name, "server")
            assert not decision.allowed and "two of the three offices" in decision.why
        assert compiled.decide(eve, "metrics:read", "server").allowed
        assert compiled.decide(eve, "audit:search", "server").allowed == ("auditor" in pair)


def test_nobody_silences_an_auditor_by_giving_a_second_office() -> None:
    clerks = role("clerk", "model:pull on model/x")
    compiled = Compiled(policy(clerks, user__ann="auditor", group__staff="clerk"))
    ann = who("ann", groups=["staff"], roles=["security-officer"])
    assert all(compiled.decide(ann, action.name, "server").allowed for action in ACTIONS if action.office == "audit")
    assert not compiled.decide(ann, "model:pull", "model/x").allowed
    assert not compiled.decide(ann, "role:grant", "role/viewer").allowed


@pytest.mark.parametrize(
    "rules",
    [["* on *"], ["access:write on *", "model:pull on *"], ["audit:* on *"], ["model:* on x", "role:grant on y"]],
)
def test_a_custom_role_cannot_bring_two_offices_together(rules: list[str]) -> None:
    if rules == ["audit:* on *"]:  # searching is the auditor's, content logging the security officer's
        assert {"audit", "security"} == role("r", *rules).offices
    with pytest.raises(InvalidRequest, match="two of them"):
        policy(role("r", *rules))


@pytest.mark.parametrize(
    ("bindings", "words"),
    [
        ({"everyone": "security-officer"}, "cannot be granted to everyone"),
        ({"tenant__a": "auditor"}, "cannot be granted to tenant/a"),
        ({"user__alice": "nothing"}, "does not exist"),
        ({"user__alice": "first-key"}, "comes with a credential"),
        ({"robot__r": "viewer"}, "is not a subject"),
    ],
)
def test_bindings_that_cannot_be(bindings: dict[str, str], words: str) -> None:
    with pytest.raises(InvalidRequest, match=words):
        policy(**bindings)


@pytest.mark.parametrize(
    "text",
    ["", "infer", "infer on", "infer model/x", "allow infer on model/x y", "infer on model/*x", "infer on mo del",
     "in*er on *", "permit infer on x", "infer on model/x;drop table", "audit:nothing on *", "infer on {{7*7}}",
     "infer on a\nb"],
)  # fmt: skip
def test_what_is_no_rule(text: str) -> None:
    with pytest.raises(InvalidRequest):
        parse_rule(text)


@pytest.mark.parametrize("text", ["infer on model/chat", "deny infer on *", "audit:* on *", "* on tenant/bank-a/*",
                                  "deny infer on model/fake:echo?tok_per_s=20&tokens=4"])  # fmt: skip
def test_a_rule_is_written_as_it_is_read(text: str) -> None:
    assert str(parse_rule(text)) == text


# --- nobody may raise their own rights


@pytest.mark.parametrize(
    ("before", "after", "raises"),
    [
        ({"user__alice": "reader"}, {"user__alice": "reader"}, False),
        ({"user__alice": "reader"}, {}, False),  # the deny of reader falls away, and nothing is allowed
        ({"user__alice": "reader", "everyone": "developer"}, {"everyone": "developer"}, True),
        ({"user__alice": "reader", "everyone": "viewer"}, {"everyone": "viewer"}, False),
        ({}, {"user__alice": "viewer"}, True),
        ({}, {"group__g": "viewer"}, True),
        ({}, {"group__other": "viewer"}, False),
        ({"everyone": "viewer"}, {"user__alice": "viewer"}, False),
        ({"user__alice": "viewer"}, {}, False),
        ({"user__alice": "developer"}, {"user__alice": "reader"}, False),
        ({"user__alice": "reader developer"}, {"user__alice": "developer"}, True),
    ],
)
def test_a_change_that_raises_the_one_who_makes_it(before: dict[str, str], after: dict[str, str], raises: bool) -> None:
    alice = who(groups=["g"])
    old, new = Compiled(policy(READER, **before)), Compiled(policy(READER, **after))
    assert bool(raised_by(old, new, alice, alice)) == raises


def test_joining_a_group_raises_too() -> None:
    compiled = Compiled(policy(group__g="viewer"))
    assert "viewer" in raised_by(compiled, compiled, who(), who(groups=["g"]))
    assert not raised_by(compiled, compiled, who(groups=["g"]), who())


# --- algebra and equality

NAMES = st.sampled_from(["model/a", "model/ab", "model/b", "tenant/x", "tenant/x/y", "server", ""])
PATTERNS = st.one_of(NAMES, NAMES.map(lambda name: name + "*"))
RULES = st.builds(
    Rule,
    st.sampled_from(["allow", "deny"]),
    st.sampled_from(["infer", "metrics:read", "cache:*", "cache:read", "cache:purge"]),
    PATTERNS,
)
QUESTIONS = st.tuples(st.sampled_from(["infer", "metrics:read", "cache:read", "cache:purge"]), NAMES)


def allowed(rules: Sequence[Rule], question: tuple[str, str]) -> bool:
    one = Role(name="r", rules=tuple(rules))
    compiled = Compiled(Policy(roles=(one,), bindings=(Binding("user/alice", "r"),)))
    return compiled.decide(who(), *question).allowed


@given(st.lists(RULES, max_size=8), RULES, QUESTIONS)
@settings(max_examples=300, deadline=None)
def test_a_rule_more_only_moves_the_decision_its_own_way(
    rules: list[Rule], more: Rule, question: tuple[str, str]
) -> None:
    before, after = allowed(rules, question), allowed([*rules, more], question)
    assert before <= after if more.effect == "allow" else after <= before
    assert allowed([more, *rules], question) == after


@given(st.lists(RULES, max_size=6), st.lists(RULES, max_size=6), QUESTIONS)
@settings(max_examples=300, deadline=None)
def test_what_raises_nothing_allows_nothing_new(old: list[Rule], new: list[Rule], question: tuple[str, str]) -> None:
    bound = (Binding("user/alice", "r"),)
    before = Compiled(Policy(roles=(Role(name="r", rules=tuple(old)),), bindings=bound))
    after = Compiled(Policy(roles=(Role(name="r", rules=tuple(new)),), bindings=bound))
    if not raised_by(before, after, who(), who()):
        assert after.decide(who(), *question).allowed <= before.decide(who(), *question).allowed


CASBIN_MODEL = """
[request_definition]
r = sub, obj, act
[policy_definition]
p = sub, obj, act, eft
[role_definition]
g = _, _
[policy_effect]
e = some(where (p.eft == allow)) && !some(where (p.eft == deny))
[matchers]
m = g(r.sub, p.sub) && keyMatch(r.obj, p.obj) && keyMatch(r.act, p.act)
"""


def casbin_cases(seed: int, cases: int) -> None:
    """Compare decisions on a random policy; subjects stand for users, groups, a tenant and everybody."""
    rng = random.Random(seed)
    words = ["a", "ab", "abc", "b", "ba", "deepseek-v3", "deepseek-r1", "qwen"]
    resources = [f"{kind}/{word}" for kind in ("model", "tenant", "key") for word in words] + ["server", "policy"]
    patterns = [*resources, "*", "model/*", "tenant/a*", "model/deepseek-*", "model/a*", "key/*", "s*"]
    actions = [action.name for action in ACTIONS]
    action_patterns = [*actions, "*", "audit:*", "model:*", "cache:*", "access:*"]
    roles = [
        Role(
            name=f"r{n}",
            rules=tuple(
                Rule("deny" if rng.random() < 0.2 else "allow", rng.choice(action_patterns), rng.choice(patterns))
                for _ in range(rng.randint(0, 5))
            ),
        )
        for n in range(8)
    ]
    users = [who(f"u{n}", tenant=f"t{n % 3}", groups=[g for g in ("g1", "g2") if rng.random() < 0.4]) for n in range(8)]
    subjects = [*(f"user/{user.id}" for user in users), "group/g1", "group/g2", "tenant/t0", "tenant/t1", "everyone"]
    bindings = [Binding(rng.choice(subjects), rng.choice(roles).name) for _ in range(14)]
    compiled = Compiled(Policy(roles=tuple(roles), bindings=tuple(bindings)), built_in=())
    model = casbin.Model()
    model.load_model_from_text(CASBIN_MODEL)
    peer = casbin.Enforcer(model)
    peer.add_policies([[one.name, r.resource, r.action, r.effect] for one in roles for r in set(one.rules)])
    links = set()
    for user in users:
        bound = {binding for binding in bindings if binding.subject in user.subjects}
        powers = {b.role: offices(roles, b.role) for b in bound}
        apart = len({office for one in powers.values() for office in one}) > 1
        links |= {(user.subjects[0], b.role) for b in bound if not (apart and powers[b.role])}
    peer.add_grouping_policies([list(link) for link in links])
    for _ in range(cases):
        user, resource, action = rng.choice(users), rng.choice(resources), rng.choice(actions)
        mine = compiled.decide(user, action, resource)
        if peer.enforce(user.subjects[0], resource, action) != mine.allowed:
            pytest.fail(f"seed {seed}: {user.id} {action} {resource}: ashore {mine}")


def offices(roles: Sequence[Role], name: str) -> set[str]:
    """The offices of a role, said once more in other words than those of the code."""
    rules = next(one.rules for one in roles if one.name == name)
    return {
        action.office
        for rule in rules
        for action in ACTIONS
        if rule.effect == "allow" and action.office and fnmatchcase(action.name, rule.action)
    }


@pytest.mark.parametrize("seed", range(40))
def test_decisions_are_those_of_casbin(seed: int) -> None:
    casbin_cases(seed, 500)


@pytest.mark.full
@pytest.mark.parametrize("seed", range(1000, 1200))
def test_decisions_are_those_of_casbin_in_a_hundred_thousand_cases(seed: int) -> None:
    casbin_cases(seed, 500)


@pytest.mark.parametrize("office", OFFICERS)
@pytest.mark.parametrize("own", [False, True])
def test_no_office_comes_with_a_group_of_a_directory(office: str, own: bool) -> None:
    """Whoever may edit a group in the directory must not become an auditor by it."""
    directory = Directory()
    owner = Account(
        id="corp:alice", tenant="default", given_groups=frozenset({"staff"}),
        groups=frozenset({"staff"} if own else ()),
    )  # fmt: skip
    key = KeyRecord(key_id="k1", digest="0" * 64, owner=owner.id, tenant="default")
    directory.take(tenants=[Tenant(name="default")], accounts=[owner], keys=[key])
    compiled = Compiled(policy(READER, group__staff=f"reader {office}"))
    claims = Claims(issuer="corp", subject="alice", tenant="default", expires_s=9e9)
    for principal in (directory.of_key_id("k1", 0), directory.of_account(owner.id), directory.of_claims(claims)):
        assert compiled.decide(principal, "infer", "model/chat").allowed
        powers = [one for one in ACTIONS if one.office is not None]
        assert any(compiled.holds(principal, one.name) for one in powers) is own
        assert directory.current(principal, 0) == principal
        gone = replace(owner, given_groups=frozenset())
        directory.take(tenants=[Tenant(name="default")], accounts=[gone])
        after = directory.current(principal, 0)
        assert ("staff" in after.groups) is own, "a token does not keep what the directory took away"
        named, _, _ = principal.acting_name.partition("?")
        assert ("staff" in directory.acting(named, "default", 0).groups) is own
        directory.take(tenants=[Tenant(name="default")], accounts=[owner])


def test_an_account_that_its_directory_shut_is_refused_whatever_an_officer_said() -> None:
    directory = Directory()
    directory.take(tenants=[Tenant(name="default")], accounts=[Account(id="corp:al", tenant="default", shut_s=1)])
    with pytest.raises(Unauthenticated, match="disabled") as caught:
        directory.of_account("corp:al")
    assert "its directory" in caught.value.hint
