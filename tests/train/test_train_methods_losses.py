"""The losses of the methods against torch's own functions and cases computed by hand."""

import math

import pytest
import torch
import torch.nn.functional as F

from edge.recipe import Model, Objectives, Recipe
from edge.tasks import Task
from edge.train.methods import discom_kd, distilled, mdico, mutual, single
from edge.train.methods.discom_kd import AdversarialHeads, orthogonality, reverse
from edge.train.methods.soft_targets import SoftTargets, distillation, soft_targets
from edge.train.model import Features, TrainingHeads
from edge.train.objectives import Loss

REGRESSION, CROPS = Task("regression"), Task("multiclass", classes=("oat", "rye", "pea"))
HALF, MODEL = 4, Model(width=8, hidden=16, embedding=8)


def features(n, outputs=1, seed=0):
    generator = torch.Generator().manual_seed(seed)
    parts = [torch.randn(n, width, generator=generator) for width in (outputs, HALF, HALF, HALF)]
    return Features(*(part.requires_grad_() for part in parts))


def everything(*names, n):
    return {name: torch.arange(n) for name in names}


def test_a_reversed_gradient_has_the_other_sign_and_the_same_values():
    x = torch.tensor([1.0, -2.0, 0.5], requires_grad=True)
    weights = torch.tensor([3.0, 5.0, -7.0])
    torch.testing.assert_close(reverse(x), x)
    (weights * reverse(x)).sum().backward()
    torch.testing.assert_close(x.grad, -weights)


def test_the_discriminator_learns_to_tell_what_the_encoders_learn_to_hide():
    """One number per sample, logits (w z, -w z), class 0: d CE / d w = (p - 1) 2 z / N by hand, for z reversed."""
    heads = AdversarialHeads(2, REGRESSION, Model(embedding=2))
    with torch.no_grad():
        heads.tell_shared.weight.copy_(torch.tensor([[1.0], [-1.0]]))
        heads.tell_shared.bias.zero_()
    parts = {"optical": features(3, seed=1), "sar": features(3, seed=2)}
    z = torch.tensor([[0.5], [1.0], [-1.0]], requires_grad=True)
    parts = {
        name: Features(part.prediction, part.specific[:, :1], part.unused[:, :1], z) for name, part in parts.items()
    }
    only = Objectives(main=0.0, aux=0.0, mod=0.0, con=1.0)
    objective = discom_kd.Disentangling(Loss(REGRESSION), only)
    found = objective(parts, torch.zeros(3), everything("optical", "sar", n=3), heads)
    p = torch.sigmoid(2 * z.detach())  # the probability of class 0; both modalities have the same features here
    expected = 0.5 * (-p.log().mean() - (1 - p).log().mean())
    torch.testing.assert_close(found["adv"], expected)
    found["adv"].backward()
    by_hand = 0.5 * ((p - 1) + p) * 2 / 3  # d adv / d z if nothing were reversed
    torch.testing.assert_close(z.grad, -by_hand)
    w = 0.5 * (((p - 1) + p) * z.detach()).mean()
    torch.testing.assert_close(heads.tell_shared.weight.grad, torch.stack([w, -w])[:, None])


def test_the_adversary_counts_in_the_total_by_its_gradient_alone():
    heads = AdversarialHeads(2, REGRESSION, MODEL)
    parts = {"optical": features(5, seed=1), "sar": features(5, seed=2)}
    rows = everything("optical", "sar", n=5)
    found = discom_kd.objectives(Recipe(method="discom-kd"), Loss(REGRESSION))(parts, torch.zeros(5), rows, heads)
    assert set(found) == {"main", "aux", "mod", "adv", "perp", "total"}
    torch.testing.assert_close(found["total"], found["main"] + found["aux"] + found["mod"] + found["perp"])
    ours = torch.autograd.grad(found["total"], heads.tell_shared.weight, retain_graph=True)
    torch.testing.assert_close(ours, torch.autograd.grad(found["adv"], heads.tell_shared.weight))


def test_orthogonal_parts_cost_nothing_and_parallel_parts_most():
    eye = torch.eye(3)[None].expand(5, 3, 3) * torch.arange(1.0, 6.0)[:, None, None]
    apart = Features(torch.zeros(5, 1), eye[:, 0], eye[:, 1], eye[:, 2])
    torch.testing.assert_close(orthogonality(apart), torch.tensor(0.0))
    along = Features(torch.zeros(5, 1), eye[:, 0], -2 * eye[:, 0], 3 * eye[:, 0])
    torch.testing.assert_close(orthogonality(along), torch.tensor(1.0))
    diagonal = Features(torch.zeros(5, 1), eye[:, 0], eye[:, 1], eye[:, 0] + eye[:, 1])
    torch.testing.assert_close(orthogonality(diagonal), torch.tensor((0.5 + 0.5 + 0.0) / 3))


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_distillation_is_torchs_divergence_at_a_temperature(temperature):
    torch.manual_seed(0)
    student, teacher = torch.randn(7, 3), torch.randn(7, 3)
    expected = temperature**2 * F.kl_div(
        F.log_softmax(student / temperature, 1), F.softmax(teacher / temperature, 1), reduction="batchmean"
    )
    torch.testing.assert_close(distillation(CROPS, student, teacher, temperature), expected)
    torch.testing.assert_close(distillation(CROPS, teacher, teacher, temperature), torch.tensor(0.0))
    values = torch.randn(7, 1)
    torch.testing.assert_close(
        distillation(REGRESSION, values, values + 2, temperature), torch.tensor(4.0), rtol=1e-5, atol=1e-5
    )


def test_distillation_of_labels_has_its_gradient_between_the_two_probabilities():
    labels = Task("multilabel", classes=("oak", "fir"))
    student, teacher = torch.tensor([[0.3, -2.0]], requires_grad=True), torch.tensor([[1.0, 0.5]])
    distillation(labels, student, teacher, 2.0).backward()
    by_hand = 2 * (torch.sigmoid(student.detach() / 2) - torch.sigmoid(teacher / 2)) / 2  # T^2 / T, mean over 2 labels
    torch.testing.assert_close(student.grad, by_hand)


def test_soft_targets_are_those_of_the_samples_that_have_the_modality():
    outputs = torch.tensor([[1.0], [2.0], [3.0]])
    targets = soft_targets(REGRESSION, 6, (torch.tensor([1, 3, 4]), outputs), temperature=1.0)
    assert targets.outputs.isnan()[:, 0].tolist() == [True, False, True, False, False, True]
    part = Features(torch.zeros(2, 1), *[torch.zeros(2, 0)] * 3)
    batch, rows = torch.tensor([4, 1, 3]), {"sar": torch.tensor([0, 2]), "optical": torch.tensor([1])}
    torch.testing.assert_close(targets({"sar": part}, batch, rows), torch.tensor((3.0**2 + 2.0**2) / 2))
    assert targets({"sar": part}, torch.tensor([0, 1, 3]), rows).isnan()  # the teacher was not asked about sample 0


def test_two_soft_students_are_averaged():
    targets = SoftTargets(REGRESSION, torch.zeros(3, 1))
    one, two = (Features(torch.full((3, 1), value), *[torch.zeros(3, 0)] * 3) for value in (1.0, 3.0))
    rows = everything("optical", "sar", n=3)
    found = targets({"optical": one, "sar": two}, torch.arange(3), rows)
    torch.testing.assert_close(found, torch.tensor((1.0 + 9.0) / 2))


def binary_kl(p, q):
    return p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q))


def test_mutual_learning_by_hand():
    """One sample, two classes: student a says 0.8, b says 0.4 for class 0, which is right."""
    task = Task("binary", classes=("yes", "no"))
    logits = {name: torch.tensor([[math.log(p / (1 - p)), 0.0]] * 2) for name, p in (("a", 0.8), ("b", 0.4))}
    parts = {name: Features(value.requires_grad_(), *[torch.zeros(2, 0)] * 3) for name, value in logits.items()}
    objective = mutual.objectives(Recipe(method="mutual"), Loss(task))
    found = objective(parts, torch.zeros(2, dtype=torch.int64), everything("a", "b", n=2), None)
    main = -(math.log(0.8) + math.log(0.4)) / 2
    learn = (binary_kl(0.4, 0.8) + binary_kl(0.8, 0.4)) / 2  # a learns from b, b from a
    for name, expected in (("main", main), ("mutual", learn), ("total", main + learn)):
        assert found[name].item() == pytest.approx(expected, rel=1e-5)
    found["mutual"].backward()
    # Of KL(p_b || p_a) to a's first logit: p_a - p_b, halved by the mean over students and again by that over samples.
    assert logits["a"].grad[0, 0].item() == pytest.approx((0.8 - 0.4) / 4, rel=1e-4)
    assert logits["b"].grad[0, 0].item() == pytest.approx((0.4 - 0.8) / 4, rel=1e-4)


def test_mutual_learning_uses_samples_that_both_have_and_none_is_no_error():
    objective = mutual.objectives(Recipe(method="mutual"), Loss(REGRESSION))
    nothing = [torch.zeros(2, 0)] * 3
    parts = {
        "a": Features(torch.tensor([[1.0], [5.0]]), *nothing),
        "b": Features(torch.tensor([[2.0], [4.0]]), *nothing),
    }
    rows = {"a": torch.tensor([0, 2]), "b": torch.tensor([2, 3])}
    found = objective(parts, torch.zeros(4), rows, None)
    torch.testing.assert_close(found["mutual"], torch.tensor(9.0))  # sample 2: 5 and 2
    found = objective(parts, torch.zeros(4), {"a": torch.tensor([0, 1]), "b": torch.tensor([2, 3])}, None)
    assert found["mutual"] == 0


@pytest.mark.parametrize(
    ("file", "method", "parts"),
    [
        (mdico, "mdico", {"main", "aux", "con", "mod"}),
        (mdico, "without-con", {"main", "aux", "mod"}),
        (mdico, "without-mod", {"main", "aux", "con"}),
        (mdico, "without-aux", {"main", "con", "mod"}),
        (single, "single-matched", {"main"}),
        (distilled, "distilled", {"main"}),
    ],
)
def test_a_variant_has_the_objectives_of_its_name(file, method, parts):
    objective = file.objectives(Recipe(method=method), Loss(REGRESSION))
    data = {"optical": features(5, seed=1), "sar": features(5, seed=2)}
    heads = TrainingHeads(2, REGRESSION, MODEL)
    found = objective(data, torch.zeros(5), everything("optical", "sar", n=5), heads)
    assert set(found) == parts | {"total"}
    torch.testing.assert_close(found["total"], sum(found[name] for name in parts))


def test_released_shows_its_second_discriminator_the_shared_features():
    data, heads = {"a": features(5, seed=1), "b": features(5, seed=2)}, TrainingHeads(2, REGRESSION, MODEL)
    rows, target = everything("a", "b", n=5), torch.zeros(5)
    for method, untouched in (("mdico", "shared"), ("released", "unused")):
        found = mdico.objectives(Recipe(method=method), Loss(REGRESSION))(data, target, rows, heads)["mod"]
        gradient = torch.autograd.grad(found, getattr(data["a"], untouched), allow_unused=True)
        assert gradient == (None,), method
