"""The designed pages, by address: what people use daily. Every other page is derived from the calls of its subject.

A view asks calls by `reader.ask`, makes parts of the answers by `kit`, and returns `reader.page` with a template that
puts the parts in order by the macros of `parts.html`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from ashore.control.console.alerting import alerts_page
from ashore.control.console.auditing import audit_page
from ashore.control.console.drilling import drills_page
from ashore.control.console.figures import log_page, server_page
from ashore.control.console.health import doctor_page
from ashore.control.console.home import home_page
from ashore.control.console.kitpage import kit_page
from ashore.control.console.masking import masking_page
from ashore.control.console.mine import my_page
from ashore.control.console.model import Answer
from ashore.control.console.models import catalogue_page, models_page, stored_page
from ashore.control.console.people import (
    accounts_page,
    groups_page,
    invite_page,
    keys_page,
    person_page,
    roles_page,
)
from ashore.control.console.reader import Reader
from ashore.control.console.releases import releases_page
from ashore.control.console.tooling import tools_page
from ashore.control.console.using import usage_page
from ashore.control.console.working import job_page, jobs_page

View = Callable[[Reader], Awaitable[Answer]]
VIEWS: Final[Mapping[str, View]] = {
    "": home_page,
    "me": my_page,
    "kit": kit_page,
    "audit": audit_page,
    "people": keys_page,
    "people/accounts": accounts_page,
    "people/groups": groups_page,
    "people/invite": invite_page,
    "people/person": person_page,
    "people/roles": roles_page,
    "usage": usage_page,
    "jobs": jobs_page,
    "jobs/job": job_page,
    "doctor": doctor_page,
    "alerts": alerts_page,
    "drills": drills_page,
    "server": server_page,
    "server/log": log_page,
    "models": models_page,
    "models/stored": stored_page,
    "models/catalogue": catalogue_page,
    "releases": releases_page,
    "privacy": masking_page,
    "privacy/tools": tools_page,
}
"""Behind `/console/`. With `?_tab=NOUN` the derived page of a subject opens, also where its address has a view."""
