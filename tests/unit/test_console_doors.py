"""What a browser gets of a step of logging in."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from ashore.control.console.doors import door_page
from ashore.control.console.model import Answer, Asked
from ashore.control.console.words import words_in
from ashore.control.sessions import Enrolment, Outcome, Provider, Visit

ASKED = Asked(method="POST", path="step-up", visit=Visit(base="https://ai.corp.example"))


def page(outcome: Outcome) -> Answer:
    return asyncio.run(door_page(outcome, ASKED, words_in("en"), {"theme": "auto"}))


def test_people_of_a_provider_give_a_fresh_proof_there_and_type_none_here() -> None:
    outcome = Outcome(form="step-up", csrf="token", local=False, providers=(Provider(name="corp", title="Corp"),))
    shown = page(outcome).body.decode()
    assert 'name="proof_again" value="1"' in shown and 'name="proof"' not in shown
    assert "proof_again" not in page(replace(outcome, form="log-in")).body.decode()


def test_the_page_after_an_ended_session_says_that_it_ended() -> None:
    assert b"Your session has ended" in page(Outcome(form="log-in", ended=True)).body
    assert b"Your session has ended" not in page(Outcome(form="log-in")).body


def test_a_form_leads_to_a_provider_by_a_page_and_not_by_a_redirect() -> None:
    """`form-action 'self'` holds for redirects, too: a browser would stop there."""
    answer = page(Outcome(status=303, goto='https://id.corp.example/authorize?a=1&b="2'))
    assert answer.status == 200 and b"location" not in dict(answer.headers)
    assert b'content="0;url=https://id.corp.example/authorize?a=1&amp;b=&#34;2"' in answer.body
    assert page(Outcome(status=303, goto="/console/me")).status == 303


def test_an_authenticator_is_set_up_by_a_picture_a_secret_or_a_passkey() -> None:
    new = Enrolment(uri="otpauth://totp/ashore%3Aann?secret=AB", secret="AB")
    shown = page(Outcome(form="enrol", csrf="token", enrolment=new, passkey='{"challenge": "x"}')).body.decode()
    assert '<svg class="qr" viewBox="0 0 ' in shown and ">AB</pre>" in shown
    assert 'data-passkey="{&#34;challenge&#34;: &#34;x&#34;}"' in shown and 'action="./me/passkey"' in shown
    plain = page(Outcome(form="code", csrf="token")).body.decode()
    assert "data-passkey" not in plain and "svg class" not in plain
