"""Feeds: the audit log, sent to receivers elsewhere as it is written.

Owns: which records a receiver lacks, their form on the wire, when they count as delivered, and the proof of what a
receiver has. Refuses to own: the log itself (`data/audit`), which is the only buffer; signatures (`control/audit`).

Where to add what:

- A kind of receiver: a class with the method of `Receiver` in control/feeds/receivers.py, its scheme in
  control/feeds/section.py.
- A form of a record: a function in control/feeds/forms.py, its name in control/feeds/section.py.
"""
