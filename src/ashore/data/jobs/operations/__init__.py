"""Operations as they are asked for and stored: their inputs and their progress.

Owns: structs. Refuses: to do an operation.
"""

from ashore.data.jobs.operations.model import NAMES, Request, name_of, progress_of, words_of
