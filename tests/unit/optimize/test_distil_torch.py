"""Losses against autograd, and students cut out of tiny teachers. Needs torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_models import make_tiny_model

from ashore.core.errors import InvalidRequest, UnsupportedModel
from ashore.lab.optimize.distilling import top_rows
from ashore.lab.optimize.surgery import (
    ROWS_AT_ONCE,
    Lesson,
    LossMix,
    cut_student,
    even_layers,
    lesson_loss,
    measure_teacher,
    plan_student,
)

pytestmark = [pytest.mark.full, pytest.mark.filterwarnings("ignore::DeprecationWarning")]

torch = pytest.importorskip("torch")


def lesson_of(num_rows: int, num_tokens: int, *, most: int, seed: int = 0, scale: float = 2.0) -> tuple[Any, Lesson]:
    """Return log-probabilities [N, V] of a made-up teacher, and the lesson that is told of them."""
    generator = torch.Generator().manual_seed(seed)
    exact_NV = torch.log_softmax(scale * torch.randn(num_rows, num_tokens, generator=generator), dim=-1)
    told = top_rows(exact_NV.numpy(), most=most, tail=1e-6)
    next_N = torch.randint(num_tokens, (num_rows,), generator=generator)
    return exact_NV, Lesson(
        torch.from_numpy(told.ids_NK),
        torch.from_numpy(told.logprobs_NK),
        torch.from_numpy(told.rest_N),
        next_N,
        torch.rand(num_rows, generator=generator),
    )


def expected_loss(logits_NV: Any, lesson: Lesson, mix: LossMix) -> Any:
    """The definition, written plainly and row by row."""
    total = torch.zeros(())
    for row, logits_V in enumerate(logits_NV):
        used = lesson.logprobs_NK[row] > -29
        ids, logp = lesson.ids_NK[row][used], lesson.logprobs_NK[row][used]
        logq_V = torch.log_softmax(logits_V, dim=-1)
        if mix.temperature == 1:
            others = torch.ones(len(logits_V), dtype=torch.bool)
            others[ids] = False
            apart = (logp.exp() * (logp - logq_V[ids])).sum()
            if others.any():
                rest = torch.logsumexp(logq_V[others], dim=0)
                apart = apart + lesson.rest_N[row].exp() * (lesson.rest_N[row] - rest)
        else:
            p = torch.softmax(logp / mix.temperature, dim=-1)
            q = torch.log_softmax(logits_V[ids] / mix.temperature, dim=-1)
            apart = mix.temperature**2 * (p * (p.log() - q)).sum()
        total = total + lesson.weight_N[row] * (mix.divergence * apart - mix.text * logq_V[lesson.next_N[row]])
    return total


@pytest.mark.parametrize(
    "mix",
    [LossMix(), LossMix(divergence=0.7, text=0.4), LossMix(temperature=2.5, text=0.3), LossMix(divergence=0, text=1)],
)
@pytest.mark.parametrize("scale", [1.0, 6.0])  # 6: few tokens are kept, and some rows are shorter than others
def test_loss_and_gradients_are_those_of_the_definition(mix: LossMix, scale: float) -> None:
    num_rows, num_tokens, width = ROWS_AT_ONCE + 20, 50, 8
    _, lesson = lesson_of(num_rows, num_tokens, most=12, scale=scale)
    hidden = torch.randn(num_rows, width, dtype=torch.float32, requires_grad=True)
    head = torch.randn(num_tokens, width, requires_grad=True)
    loss = lesson_loss(hidden, head, lesson, mix)
    (3 * loss).backward()
    mine = hidden.grad.clone(), head.grad.clone()
    hidden.grad = head.grad = None
    expected = expected_loss(hidden @ head.T, lesson, mix)
    (3 * expected).backward()
    assert float(loss.detach()) == pytest.approx(float(expected.detach()), rel=1e-4)
    assert torch.allclose(mine[0], hidden.grad, rtol=1e-3, atol=1e-4)
    assert torch.allclose(mine[1], head.grad, rtol=1e-3, atol=1e-3)


def test_a_student_that_says_the_same_has_no_divergence() -> None:
    exact_NV, lesson = lesson_of(40, 40, most=10)
    eye = torch.eye(40)
    assert float(lesson_loss(exact_NV, eye, lesson, LossMix())) == pytest.approx(0, abs=1e-4)
    assert float(lesson_loss(exact_NV, eye, lesson, LossMix(temperature=3))) == pytest.approx(0, abs=1e-4)
    assert float(lesson_loss(exact_NV.roll(1, 1), eye, lesson, LossMix())) > 10


@pytest.mark.parametrize("wrong", [{"divergence": -1.0}, {"divergence": 0.0}, {"temperature": 0.0}])
def test_a_senseless_mix_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(InvalidRequest):
        LossMix(**wrong)


def tiny(folder: Path, kind: str = "llama") -> Any:
    import transformers

    return transformers.AutoModelForCausalLM.from_pretrained(make_tiny_model(folder, kind)).eval()


WHOLE = {"layers": 2, "groups": 2, "channels": 128, "hidden": 64}
TEXTS = [list(range(10, 60)), list(range(100, 130))]


def num_parameters(model: Any) -> int:
    return sum(p.numel() for p in {p.data_ptr(): p for p in model.parameters()}.values())


@pytest.mark.parametrize("kind", ["llama", "qwen2", "qwen3"])
def test_a_student_of_full_size_says_what_its_teacher_says(tmp_path: Path, kind: str) -> None:
    teacher = tiny(tmp_path, kind)
    before = {name: tensor.clone() for name, tensor in teacher.state_dict().items()}
    student = cut_student(teacher, plan_student(measure_teacher(teacher, TEXTS), **WHOLE))
    ids = torch.tensor([TEXTS[0]])
    assert torch.allclose(student(ids).logits, teacher(ids).logits, atol=1e-5)
    student.model.layers[0].mlp.up_proj.weight.data.zero_()
    assert all(torch.equal(tensor, before[name]) for name, tensor in teacher.state_dict().items())


@pytest.mark.parametrize("kind", ["llama", "qwen2", "qwen3"])
def test_a_smaller_student_is_a_part_of_its_teacher_and_runs(tmp_path: Path, kind: str) -> None:
    teacher = tiny(tmp_path, kind)
    measure = measure_teacher(teacher, TEXTS)
    student = cut_student(teacher, plan_student(measure, layers=1, groups=1, channels=64, hidden=32))
    config = student.config
    assert (config.num_hidden_layers, config.hidden_size, config.intermediate_size) == (1, 32, 64)
    assert (config.num_attention_heads, config.num_key_value_heads) == (2, 1)
    assert torch.isfinite(student(torch.tensor([TEXTS[0]])).logits).all()
    assert num_parameters(student) < num_parameters(teacher) / 2
    assert (student.lm_head.weight is student.model.embed_tokens.weight) is bool(config.tie_word_embeddings)
    student.save_pretrained(tmp_path / "out")
    again = type(student).from_pretrained(tmp_path / "out").eval()
    assert torch.equal(again(torch.tensor([TEXTS[1]])).logits, student(torch.tensor([TEXTS[1]])).logits)


def test_channels_that_do_nothing_go_first(tmp_path: Path) -> None:
    teacher = tiny(tmp_path)
    for layer in teacher.model.layers:
        layer.mlp.down_proj.weight.data[:, ::2] = 0
    student = cut_student(teacher, plan_student(measure_teacher(teacher, TEXTS), **{**WHOLE, "channels": 64}))
    ids = torch.tensor([TEXTS[0]])
    assert torch.allclose(student(ids).logits, teacher(ids).logits, atol=1e-4)


def test_layers_are_spread_evenly_and_the_outer_ones_stay() -> None:
    assert even_layers(30, 11) == (0, 3, 6, 9, 12, 14, 17, 20, 23, 26, 29)
    assert even_layers(2, 2) == (0, 1)
    assert even_layers(4, 1) == (0,)
    for num_layers in range(1, 40):
        for num_kept in range(1, num_layers + 1):
            assert len(set(even_layers(num_layers, num_kept))) == num_kept


def test_a_family_that_is_not_known_and_no_text_are_refused(tmp_path: Path) -> None:
    teacher = tiny(tmp_path)
    with pytest.raises(InvalidRequest, match="no text"):
        measure_teacher(teacher, [])
    teacher.config.model_type = "deepseek_v3"
    with pytest.raises(UnsupportedModel, match="'deepseek_v3'"):
        measure_teacher(teacher, TEXTS)


def test_what_is_measured_does_not_depend_on_how_text_is_cut(tmp_path: Path) -> None:
    teacher = tiny(tmp_path)
    one, two = measure_teacher(teacher, TEXTS), measure_teacher(teacher, TEXTS[::-1])
    assert np.allclose(one.channels_LI, two.channels_LI, rtol=1e-5)
    assert np.allclose(one.layers_L, two.layers_L, rtol=1e-5)
