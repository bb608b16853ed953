"""One description, many forms: image, compose, quadlet, k8s, helm and bundle, from ashore.toml and places.toml.

`describe_deployment` reads both into a `Description`; a form is a pure function of that to the text of its files.
Secrets are names: `secrets.py` takes them out before anything else sees ashore.toml, and `render_form` refuses to
return a file that contains one.

Where to add what:

- A key of places.toml: a field in places.py, which `describe_deployment` reads; then `make docs`.
- A form: a function from `Description` to files by their names, and a row in `FORMS`. What it cannot say it refuses
  with InvalidSpec, and the hint says what to change.
- A new key of ashore.toml that names a file or folder: mark the field `AFile` or `APlace` where it is declared.
- Another controller for vLLM on Kubernetes: a case in workloads.py and a word in `Engines` of places.py.

The unit of systemd (machine/deployment/unit.py) runs the installation of this machine, so it is rendered from the
words of `ashore up` and needs no places.
"""

from ashore.machine.deployment.forms.check import check_objects, find_kubectl
from ashore.machine.deployment.forms.description import Description, describe_deployment
from ashore.machine.deployment.forms.files import compare, write
from ashore.machine.deployment.forms.kubernetes import kubernetes_objects
from ashore.machine.deployment.forms.places import Places, parse_places, read_places
from ashore.machine.deployment.forms.secrets import is_secret
from ashore.machine.deployment.forms.table import FORMS, render_form
