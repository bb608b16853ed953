"""Models on demand as a worker knows them: which are loaded, and the connection to the supervisor.

Owns: what is asked and answered. Refuses: to load a model.
"""

from ashore.data.residency.model import AsksSupervisor, Residence, ResidenceState, Served, Standings
