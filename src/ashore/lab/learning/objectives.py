"""What is minimised: corrections and votes up word for word, votes down and pairs by how much likelier an answer became
than to the model without the adapter, which is the same one with the adapter switched off: there is no second copy.

Shapes in names: T tokens of a row, N targets, H hidden size, V vocabulary, E examples of a row, P pairs of a row.

Sources: DPO, Rafailov and others, arXiv 2305.18290, equation 7. APO-zero for votes down without a correction,
D'Oosterlinck and others, arXiv 2408.06266, as trl's `KTOTrainer` has it (`loss_type="apo_zero_unpaired"`): it needs no
estimate of a divergence, which KTO takes from a batch larger than a processor likes.
"""

from __future__ import annotations

from typing import Any, Final, Literal

import numpy as np

from ashore.lab.training import Batch
from ashore.lab.training.losses import CHUNK, answer_loss, hidden_states

BETA: Final = 0.1
Role = Literal["learn", "pair", "down"]
"""learn: word for word. pair: two examples, the better one first. down: made less likely."""


class FeedbackLoss:
    """A `Loss` of the training loop over rows of one role each."""

    def __init__(self, peft_model: Any, roles: dict[int, Role], *, beta: float = BETA) -> None:
        """Create it.

        Args:
            peft_model: Has the adapter, and can switch it off.
            roles: By the number of an example in the corpus. Of pairs, better and worse ones take turns.
            beta: How far answers may move from those of the model without the adapter.
        """
        self._peft, self._roles, self._beta = peft_model, roles, beta

    def __call__(self, model: Any, batch: Batch) -> Any:
        """Return the loss of a row, summed over its targets."""
        role = self._roles[batch.examples[0]]
        if role == "learn":
            return answer_loss(model, batch)
        import torch

        with torch.no_grad(), self._peft.disable_adapter():
            before_E = log_likelihoods(model, batch)
        moved_E = log_likelihoods(model, batch) - before_E
        if role == "pair":
            weight_P = torch.from_numpy(_targets(batch)).view(-1, 2).sum(dim=1)
            return (pair_losses(moved_E, self._beta) * weight_P).sum()
        return unwanted_loss(moved_E, self._beta) * (batch.num_targets / len(batch.lengths))


def pair_losses(moved_E: Any, beta: float) -> Any:
    """Return DPO's loss of each pair, `[P]`. `moved_E`: log-probability of better and worse answers in turns, less that
    of the reference."""
    import torch

    return -torch.nn.functional.logsigmoid(beta * (moved_E[0::2] - moved_E[1::2]))


def unwanted_loss(moved_E: Any, beta: float) -> Any:
    """Return APO-zero's loss, summed over answers that were all voted down."""
    import torch

    return torch.sigmoid(beta * moved_E).sum()


def _targets(batch: Batch) -> np.ndarray:
    """Return the number of targets of each example in a row, `[E]`."""
    ends = np.cumsum(batch.lengths)
    return np.add.reduceat(batch.targets_T.astype(np.int64), ends - np.asarray(batch.lengths))


def log_likelihoods(model: Any, batch: Batch) -> Any:
    """Return the total log-probability of each example's targets in a row, `[E]`."""
    import torch

    head = model.get_output_embeddings()
    (at,) = np.nonzero(batch.targets_T)
    owner = np.repeat(np.arange(len(batch.lengths)), batch.lengths)[at]
    hidden_NH = hidden_states(model, batch)[torch.from_numpy(at - 1)]
    wanted_N = torch.from_numpy(batch.ids_T[at])
    total_E = torch.zeros(len(batch.lengths))
    for start in range(0, len(wanted_N), CHUNK):
        part = slice(start, start + CHUNK)
        scores = torch.log_softmax((hidden_NH[part] @ head.weight.T.to(hidden_NH.dtype)).float(), dim=-1)
        found = scores.gather(1, wanted_N[part, None])[:, 0]
        total_E = total_E.index_add(0, torch.from_numpy(owner[part]), found)
    return total_E
