from itertools import permutations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from pytorch_metric_learning.losses import NTXentLoss, SelfSupervisedLoss
from sklearn.utils.class_weight import compute_class_weight

from edge.recipe import Model, Objectives
from edge.tasks import Task
from edge.train.model import Features, TrainingHeads
from edge.train.objectives import CoLearning, Loss, class_weights, nt_xent

HALF = 4
NAMES = ("optical", "sar", "soil")
REGRESSION = Task("regression")
CROPS = Task("multiclass", classes=("oat", "rye", "pea"))


def make_features(names, n=6, outputs=1, rows=None):
    torch.manual_seed(5)
    counts = {name: n if rows is None else len(rows[name]) for name in names}

    def leaf(count, size):
        return torch.randn(count, size, requires_grad=True)

    return {
        name: Features(leaf(count, outputs), leaf(count, HALF), leaf(count, HALF), leaf(count, HALF))
        for name, count in counts.items()
        if count
    }


def all_rows(names, n=6):
    return {name: torch.arange(n) for name in names}


def make_heads(n_modalities, task=REGRESSION):
    torch.manual_seed(6)
    return TrainingHeads(n_modalities, task, Model(embedding=2 * HALF))


def naive_nt_xent(a, b, temperature=0.1):
    """Equation 1 of Chen et al. 2020, anchor by anchor."""
    z, n = torch.cat([a, b]), len(a)
    total = 0.0
    for i in range(2 * n):
        similarity = [torch.exp(F.cosine_similarity(z[i], z[k], dim=0) / temperature) for k in range(2 * n)]
        others = sum(similarity[k] for k in range(2 * n) if k != i)
        total = total - torch.log(similarity[(i + n) % (2 * n)] / others)
    return total / (2 * n)


def naive_loss(kind, prediction, target):
    if kind == "regression":
        return ((prediction[:, 0] - target) ** 2).mean()
    if kind == "multilabel":
        p = prediction.sigmoid()
        return -(target * p.log() + (1 - target) * (1 - p).log()).mean()
    return -prediction.softmax(1)[range(len(target)), target].log().mean()


@pytest.mark.parametrize("n", [2, 5, 32])
def test_nt_xent_equals_pytorch_metric_learning(n):
    torch.manual_seed(n)
    a, b = torch.randn(n, 8), torch.randn(n, 8)
    oracle = SelfSupervisedLoss(NTXentLoss(0.1), symmetric=True)
    torch.testing.assert_close(nt_xent(a, b, 0.1), oracle(a, b), rtol=1e-6, atol=1e-6)


def test_the_gradient_of_nt_xent_equals_pytorch_metric_learning():
    torch.manual_seed(0)
    a, b = torch.randn(7, 8, requires_grad=True), torch.randn(7, 8)
    (ours,) = torch.autograd.grad(nt_xent(a, b, 0.1), a)
    (theirs,) = torch.autograd.grad(SelfSupervisedLoss(NTXentLoss(0.1), symmetric=True)(a, b), a)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("task", "target"),
    [
        (REGRESSION, torch.tensor([0.5, -1.0, 2.0, 0.0, 1.0, -0.3])),
        (Task("binary", classes=("no", "yes")), torch.tensor([0, 1, 1, 0, 1, 0])),
        (CROPS, torch.tensor([0, 1, 2, 2, 1, 0])),
        (Task("multilabel", classes=("a", "b", "c")), torch.tensor([[0, 1, 1], [1, 0, 0]] * 3).float()),
    ],
    ids=lambda value: value.kind if isinstance(value, Task) else "",
)
@pytest.mark.parametrize("names", [NAMES[:2], NAMES], ids=["two", "three"])
def test_each_objective_equals_its_written_definition(names, task, target):
    features, heads = make_features(names, outputs=task.n_outputs), make_heads(len(names), task)
    found = CoLearning(Loss(task), Objectives(2.0, 3.0, 5.0, 7.0))(features, target, all_rows(names), heads)
    m = len(names)
    main = sum(naive_loss(task.kind, part.prediction, target) for part in features.values()) / m
    aux = sum(
        (naive_loss(task.kind, heads.auxiliary(part.specific), target) / 2)
        + (naive_loss(task.kind, heads.auxiliary(part.shared), target) / 2)
        for part in features.values()
    ) / m  # fmt: skip
    pairs = list(permutations(names, 2))
    con = sum(naive_nt_xent(features[a].shared, features[b].shared) for a, b in pairs) * 2 / len(pairs)
    mod = 0.0
    for index, part in enumerate(features.values()):
        for logits in (heads.tell_specific(part.specific), heads.tell_unused(part.unused)):
            mod = mod - logits.log_softmax(1)[:, index].mean() / (2 * m)
    expected = {"main": main, "aux": aux, "con": con, "mod": mod, "total": 2 * main + 3 * aux + 5 * con + 7 * mod}
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-5, atol=1e-6, msg=lambda text, n=name: f"{n}: {text}")


def test_two_modalities_keep_the_published_weight_of_the_contrast():
    features, rows = make_features(NAMES[:2]), all_rows(NAMES[:2])
    both_orders = 2 * naive_nt_xent(features["optical"].shared, features["sar"].shared)
    for released in (False, True):
        objectives = CoLearning(Loss(REGRESSION), Objectives(), released=released)
        torch.testing.assert_close(objectives.contrast(features, rows), both_orders, rtol=1e-5, atol=1e-6)


def test_a_third_modality_keeps_the_balance_while_released_sums():
    features, rows = make_features(NAMES), all_rows(NAMES)
    ours = CoLearning(Loss(REGRESSION), Objectives()).contrast(features, rows)
    released = CoLearning(Loss(REGRESSION), Objectives(), released=True).contrast(features, rows)
    summed = sum(naive_nt_xent(features[a].shared, features[b].shared) for a, b in permutations(NAMES, 2))
    torch.testing.assert_close(released, summed, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(released, 3 * ours)


@pytest.mark.parametrize("released", [False, True], ids=["figure", "released"])
def test_the_second_discriminator_reads_what_its_variant_says(released):
    names = NAMES[:2]
    features = make_features(names)
    objectives = CoLearning(Loss(REGRESSION), Objectives(), released=released)
    objectives.discrimination(features, all_rows(names), make_heads(2)).backward()
    for part in features.values():
        assert part.specific.grad.abs().sum() > 0
        read, ignored = (part.shared, part.unused) if released else (part.unused, part.shared)
        assert read.grad.abs().sum() > 0
        assert ignored.grad is None


@pytest.mark.parametrize(("weight", "name"), [("aux", "aux"), ("con", "con"), ("mod", "mod")])
def test_an_objective_of_weight_zero_is_not_computed(weight, name):
    names = NAMES[:2]
    objectives = CoLearning(Loss(REGRESSION), Objectives(**{weight: 0.0}))
    found = objectives(make_features(names), torch.zeros(6), all_rows(names), make_heads(2))
    assert name not in found
    torch.testing.assert_close(found["total"], sum(value for key, value in found.items() if key != "total"))


def test_a_missing_modality_is_left_out_of_exactly_the_losses_that_need_it():
    rows = {"optical": torch.tensor([0, 1, 2, 3]), "sar": torch.tensor([1, 3, 4, 5])}
    features, heads = make_features(rows, rows=rows), make_heads(2)
    target = torch.tensor([0.0, 1.0, 2.0, 3.0, 4.0, 5.0])
    found = CoLearning(Loss(REGRESSION), Objectives())(features, target, rows, heads)
    optical, sar = features["optical"], features["sar"]
    main = (
        naive_loss("regression", optical.prediction, target[[0, 1, 2, 3]])
        + naive_loss("regression", sar.prediction, target[[1, 3, 4, 5]])
    ) / 2
    torch.testing.assert_close(found["main"], main)
    # Samples 1 and 3 have both: rows 1 and 3 of optical, rows 0 and 1 of sar.
    torch.testing.assert_close(found["con"], 2 * naive_nt_xent(optical.shared[[1, 3]], sar.shared[[0, 1]]))
    found["con"].backward(retain_graph=True)
    assert optical.shared.grad[[0, 2]].abs().sum() == 0
    assert optical.shared.grad[[1, 3]].abs().sum() > 0
    assert sar.shared.grad[[2, 3]].abs().sum() == 0
    found["main"].backward(retain_graph=True)
    assert (optical.prediction.grad != 0).all()
    found["mod"].backward()
    assert (optical.unused.grad != 0).any(dim=1).all()  # every sample that is there tells its modality
    assert (sar.specific.grad != 0).any(dim=1).all()


def test_class_weights_count_within_each_modality_where_different_samples_lack_one():
    rows = {"optical": torch.tensor([0, 1, 2, 3]), "sar": torch.tensor([2, 3, 4, 5])}
    features, heads = make_features(rows, outputs=3, rows=rows), make_heads(2, CROPS)
    target, weight = torch.tensor([0, 0, 1, 2, 2, 2]), torch.tensor([0.1, 1.0, 5.0])
    loss = torch.nn.CrossEntropyLoss(weight)
    found = CoLearning(Loss(CROPS, weight), Objectives())(features, target, rows, heads)
    terms = {name: (part, target[rows[name]]) for name, part in features.items()}
    main = sum(loss(part.prediction, wanted) for part, wanted in terms.values()) / 2
    aux = sum(loss(heads.auxiliary(z), wanted) for part, wanted in terms.values() for z in (part.specific, part.shared))
    torch.testing.assert_close(found["main"], main)
    torch.testing.assert_close(found["aux"], aux / 4)


def test_the_discriminators_keep_a_modalitys_number_when_another_one_is_absent():
    rows = {"optical": torch.tensor([], dtype=torch.long), "sar": torch.arange(6)}
    features, heads = make_features(rows, rows=rows), make_heads(2)
    found = CoLearning(Loss(REGRESSION), Objectives()).discrimination(features, rows, heads)
    part = features["sar"]
    terms = [heads.tell_specific(part.specific), heads.tell_unused(part.unused)]
    torch.testing.assert_close(found, -sum(logits.log_softmax(1)[:, 1].mean() for logits in terms) / 2)


@pytest.mark.parametrize("common", [[], [2]], ids=["none", "a lone one"])
def test_without_two_common_samples_there_is_nothing_to_contrast(common):
    rows = {"optical": torch.tensor([0, 1, *common]), "sar": torch.tensor([*common, 3, 4])}
    found = CoLearning(Loss(REGRESSION), Objectives())(
        make_features(rows, rows=rows), torch.zeros(5), rows, make_heads(2)
    )
    assert found["con"] == 0
    assert torch.isfinite(found["total"])


def test_a_batch_that_has_no_modality_costs_nothing_and_can_be_differentiated():
    rows = {name: torch.tensor([], dtype=torch.long) for name in NAMES[:2]}
    found = CoLearning(Loss(REGRESSION), Objectives())({}, torch.zeros(2), rows, make_heads(2))
    found["total"].backward()
    assert found["total"] == 0


def test_class_weights_equal_sklearns_balanced_ones():
    target = torch.tensor([0] * 7 + [1] * 2 + [2] * 11)
    expected = compute_class_weight("balanced", classes=np.arange(3), y=target.numpy())
    torch.testing.assert_close(class_weights(CROPS, target), torch.tensor(expected, dtype=torch.float32))


def test_a_class_without_samples_weighs_nothing():
    assert class_weights(CROPS, torch.tensor([0, 0, 2]))[1] == 0


@pytest.mark.parametrize("task", [REGRESSION, Task("multilabel", classes=("a", "b"))], ids=lambda task: task.kind)
def test_other_tasks_have_no_class_weights(task):
    assert class_weights(task, torch.zeros(3, 2)) is None


def test_class_weights_balance_the_loss():
    target = torch.tensor([0, 0, 0, 1])
    weights = class_weights(Task("binary", classes=("no", "yes")), target)  # 4 / (2 * 3) and 4 / (2 * 1)
    prediction = torch.tensor([[1.0, 0.0], [0.5, 0.0], [0.0, 2.0], [0.3, 0.1]])
    each = -prediction.log_softmax(1)[range(4), target]
    expected = (each[:3].mean() + each[3]) / 2  # both classes count the same
    torch.testing.assert_close(Loss(Task("binary", classes=("no", "yes")), weights)(prediction, target), expected)


@pytest.mark.parametrize("kind", ["regression", "multiclass", "multilabel"])
def test_the_losses_of_single_samples_add_up_to_that_of_all(kind):
    task = Task("regression", "moisture") if kind == "regression" else Task(kind, classes=("a", "b", "c"))
    prediction = torch.randn(20, task.n_outputs, generator=torch.Generator().manual_seed(0))
    target = {
        "regression": torch.linspace(-1, 1, 20), "multiclass": torch.arange(20) % 3 % 2,
        "multilabel": (prediction > 0.3).float(),
    }[kind]  # fmt: skip
    weights = class_weights(task, target)
    each, share = Loss(task, weights).each(prediction, target), 1 / 20
    if weights is not None:
        share = 1 / weights[target].sum()
    torch.testing.assert_close(each.sum() * share, Loss(task, weights)(prediction, target))
    torch.testing.assert_close(each[4:5], Loss(task, weights).each(prediction[4:5], target[4:5]))
