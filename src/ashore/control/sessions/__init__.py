"""Sessions of the console: local accounts, second factors, OpenID providers, and the principal behind a cookie.

Owns: passwords, factors, invitations, cookies and their lives. Refuses to own: pages (`console` renders what an
`Outcome` says), rights (the authority of `access` decides on `Session.principal` as on any other), and requests.

A request of the console starts like this:

    visit = Visit(
        origin=..., request_id=..., base=..., prefix=..., cookie=..., agent=..., fetch_site=..., origin_said=...
    )
    session = await sessions.session_of(visit)
    if session is None:                      # go to /console/log-in?next=PATH
    sessions.check_post(visit, session, fields)          # for everything that is not a GET
    actor = Actor(principal=session.principal, origin=visit.origin, request_id=visit.request_id)
    try:
        await perform(call, desk, actor, asked)
    except PermissionDenied as fault:
        if sessions.needs_proof(session, fault):         # go to /console/step-up?next=PATH

Where to add what:

- A rule for passwords or sessions: a field of `Rules` and a key of `[console]` (`section.py`).
- A step of a log-in: a `Stage`, its form in `FIELDS`, a method of `Doors` and of the port.
- A verb of administration: a row in `calls.py`.
"""

from ashore.control.sessions.model import CONSOLE, FIELDS, Enrolment, Outcome, Provider, Session, Visit
from ashore.control.sessions.service import Sessions
