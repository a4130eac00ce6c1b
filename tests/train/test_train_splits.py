import numpy as np
import pytest

from edge.errors import InputError
from edge.recipe import PROTOCOLS, Recipe
from edge.tasks import Task
from edge.train.datasets import resolve
from edge.train.splits import (
    fold_count,
    grouped_folds,
    places_known,
    protocol_of,
    protocol_text,
    random_folds,
    split_indices,
)


def test_every_fold_covers_all_samples_once_and_keeps_groups_apart(small_paired):
    for fold in range(5):
        split = split_indices(small_paired, fold)
        parts = [split.train, split.validation, split.test]
        np.testing.assert_array_equal(np.sort(np.concatenate(parts)), np.arange(len(small_paired)))
        assert all(part.dtype == np.int64 and (np.diff(part) > 0).all() for part in parts)
        sites = [set(small_paired.groups[part]) for part in parts]
        assert not sites[0] & sites[1]
        assert not sites[0] & sites[2]
        assert not sites[1] & sites[2]


def test_the_tests_of_all_folds_are_the_whole_set(small_paired):
    tests = [split_indices(small_paired, fold).test for fold in range(5)]
    np.testing.assert_array_equal(np.sort(np.concatenate(tests)), np.arange(len(small_paired)))


def test_validation_is_the_next_folds_test(small_paired):
    for fold in range(5):
        following = split_indices(small_paired, (fold + 1) % 5).test
        np.testing.assert_array_equal(split_indices(small_paired, fold).validation, following)


def test_folds_do_not_depend_on_the_order_of_the_rows():
    groups = np.random.default_rng(1).integers(30, size=400)
    order = np.random.default_rng(2).permutation(400)
    np.testing.assert_array_equal(grouped_folds(groups, 5)[order], grouped_folds(groups[order], 5))


def test_the_largest_groups_go_first_onto_the_smallest_fold():
    sizes = [9, 7, 6, 4, 3]  # by hand: 9 | 7 | 6; 4 onto the 6; 3 onto the 7
    folds = grouped_folds(np.repeat(np.arange(5), sizes), 3)
    of_group = [int(folds[sum(sizes[:i])]) for i in range(5)]
    assert of_group == [0, 1, 2, 2, 1]


def test_a_published_fold_is_used(write):
    fold = np.arange(12) // 4
    data = write(fold=fold, target=np.arange(12) % 2, task=Task("binary", classes=("no", "yes")))
    split = split_indices(data, fold=2)
    np.testing.assert_array_equal(split.test, [8, 9, 10, 11])
    np.testing.assert_array_equal(split.validation, [0, 1, 2, 3])
    np.testing.assert_array_equal(split.train, [4, 5, 6, 7])


def test_a_published_split_goes_before_a_fold(write):
    data = write(fold=np.arange(12) // 4, split=np.array([0] * 6 + [2] * 2 + [1] * 4))
    split = split_indices(data)
    np.testing.assert_array_equal(split.train, range(6))
    np.testing.assert_array_equal(split.test, [6, 7])
    np.testing.assert_array_equal(split.validation, range(8, 12))


@pytest.mark.parametrize(("groups", "folds"), [(3, 3), (4, 4), (6, 5)])
def test_few_groups_make_fewer_folds_unless_told(write, groups, folds):
    data = write(groups=np.arange(12) % groups, target=np.arange(12) // 6, task=Task("binary", classes=("no", "yes")))
    assert fold_count(data) == folds
    assert fold_count(data, protocol="random") == 5
    split = split_indices(data, fold=folds - 1)
    assert not set(data.groups[split.test]) & set(data.groups[split.train])
    assert f"grouped, {folds} folds" in protocol_text(data, Recipe())


def test_too_few_groups_are_refused(write):
    with pytest.raises(InputError, match="there are 2 groups, fewer than the 3 folds; three are the least"):
        split_indices(write(groups=np.arange(12) % 2))
    with pytest.raises(InputError, match="there are 6 groups, fewer than the 7 folds; use at most 6"):
        split_indices(write(), folds=7)
    with pytest.raises(
        InputError, match="there are 2 groups, fewer than the 5 folds; three are the least; use --protocol"
    ):
        grouped_folds(np.array([0, 0, 1]), 5)


@pytest.mark.parametrize("fold", [-1, 5])
def test_a_fold_out_of_range_is_refused(small_paired, fold):
    with pytest.raises(InputError, match=f"fold {fold} is out of range: there are 5 folds, so use 0 to 4"):
        split_indices(small_paired, fold)


def test_another_fold_of_a_published_split_is_refused(write):
    with pytest.raises(
        InputError, match="tiny has a split of its own, used unless another protocol is named, so use 0"
    ):
        split_indices(write(split=np.array([0] * 6 + [1] * 2 + [2] * 4)), fold=1)


def test_two_folds_leave_nothing_to_train_on(small_paired):
    with pytest.raises(InputError, match="2 folds leave nothing to train on"):
        split_indices(small_paired, folds=2)


def test_a_split_without_a_validation_part_is_refused(write):
    with pytest.raises(InputError, match="the validation part of fold 0 has no sample"):
        split_indices(write(split=np.array([0] * 6 + [2] * 6)))


def test_a_class_that_only_the_test_has_is_refused(write):
    target = np.array([0, 1] * 4 + [2] * 4)  # all of `pea` in the groups of fold 2
    with pytest.raises(InputError, match="class 'pea' has no sample in the training part"):
        split_indices(write(target=target, fold=np.arange(12) // 4), fold=2)


def test_a_label_that_only_the_test_has_is_refused(write):
    target = np.stack([np.arange(12) % 2, np.arange(12) >= 8], axis=1)
    task = Task("multilabel", classes=("oak", "fir"))
    with pytest.raises(InputError, match="class 'fir' has no sample in the training part"):
        split_indices(write(target=target, task=task, fold=np.arange(12) // 4), fold=2)


@pytest.fixture
def own_split(write):
    """12 samples in 6 groups of two, two classes, and a split of the set's own."""
    task = Task("binary", classes=("no", "yes"))
    return write(split=np.array([0] * 6 + [1] * 4 + [2] * 2), target=np.arange(12) % 2, task=task)


@pytest.mark.parametrize("folds", [5, 7])
@pytest.mark.parametrize("protocol", ["grouped", "random", "published"])
def test_every_sample_is_tested_exactly_once_over_the_folds(small_paired, protocol, folds):
    splits = [split_indices(small_paired, fold, folds, protocol=protocol, seed=4) for fold in range(folds)]
    np.testing.assert_array_equal(np.sort(np.concatenate([split.test for split in splits])), np.arange(180))
    for split in splits:
        assert not np.intersect1d(split.train, split.test).size
        assert not np.intersect1d(split.train, split.validation).size


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_validation_is_the_test_under_published_alone(small_paired, own_split, protocol):
    split = split_indices(own_split if protocol == "fixed" else small_paired, protocol=protocol)
    if protocol == "published":
        np.testing.assert_array_equal(split.validation, split.test)
        assert len(split.train) + len(split.test) == 180
    else:
        assert not np.intersect1d(split.validation, split.test).size


def test_only_random_folds_put_a_group_on_two_sides(small_paired):
    for protocol, shared in (("grouped", False), ("random", True), ("published", True)):
        split = split_indices(small_paired, protocol=protocol)
        assert bool(set(small_paired.groups[split.train]) & set(small_paired.groups[split.test])) == shared


def test_places_are_known_with_random_folds_and_where_none_are_named(write):
    named, nameless = write(groups=np.arange(12) // 2), write(groups=np.arange(12))
    assert [places_known(named, protocol) for protocol in (None, "grouped", "random", "published")] == [0, 0, 1, 1]
    assert places_known(nameless, "grouped")
    split = np.repeat([0, 1, 2], 4)
    assert [places_known(write(groups=groups, split=split), None) for groups in (split, np.arange(12))] == [0, 1]


def test_random_folds_deal_a_permutation_out_like_cards():
    order = [4, 6, 2, 7, 3, 5, 9, 0, 8, 1]  # what numpy's generator gives for seed 0
    np.testing.assert_array_equal(np.random.default_rng(0).permutation(10), order)
    by_hand = {0: [4, 7, 9, 1], 1: [6, 3, 0], 2: [2, 5, 8]}
    folds = random_folds(10, 3, seed=0)
    assert {fold: sorted(np.flatnonzero(folds == fold)) for fold in range(3)} == {
        fold: sorted(samples) for fold, samples in by_hand.items()
    }


def test_the_seed_moves_random_folds_and_not_grouped_ones(small_paired):
    def test_part(protocol, seed):
        return split_indices(small_paired, protocol=protocol, seed=seed).test.tolist()

    assert test_part("grouped", 0) == test_part("grouped", 1)
    assert test_part("random", 0) != test_part("random", 1)
    for protocol in ("grouped", "random", "published"):
        assert test_part(protocol, 3) == test_part(protocol, 3)
    assert test_part("random", 3) == test_part("published", 3)


def test_published_folds_are_used_if_there_are_as_many_as_asked_for(write):
    fold = np.arange(12) // 4
    data = write(fold=fold, target=np.arange(12) % 2, task=Task("binary", classes=("no", "yes")))
    assert (fold_count(data), fold_count(data, 3), fold_count(data, 6)) == (3, 3, 6)
    np.testing.assert_array_equal(split_indices(data, 1, 3).test, [4, 5, 6, 7])
    tests = [split_indices(data, k, 6).test for k in range(6)]
    assert sorted(data.groups[test].tolist() for test in tests) == [[k, k] for k in range(6)]


def test_ten_folds_of_lfmc_are_apart_by_site_though_five_are_published(real_data, monkeypatch):
    monkeypatch.setenv("EDGE_DATA", str(real_data("lfmc").parent))
    data = resolve("lfmc")
    assert int(data.fold.max()) + 1 == fold_count(data) == 5
    np.testing.assert_array_equal(split_indices(data, 2, 5).test, np.flatnonzero(data.fold == 2))
    tests = [split_indices(data, fold, 10).test for fold in range(10)]
    sites = [set(data.groups[test]) for test in tests]
    assert sum(map(len, sites)) == len(set.union(*sites)) == 150
    assert sum(map(len, tests)) == len(data)
    assert max(map(len, tests)) < 1.2 * min(map(len, tests))


def test_a_set_with_a_split_of_its_own_has_grouped_folds_on_request(own_split, small_paired):
    assert protocol_of(own_split) == "fixed"
    assert protocol_of(own_split, "grouped") == protocol_of(small_paired) == "grouped"
    assert [fold_count(own_split, 3, protocol) for protocol in (None, "fixed", "grouped")] == [1, 1, 3]
    np.testing.assert_array_equal(split_indices(own_split).test, [10, 11])
    tests = np.concatenate([split_indices(own_split, fold, 3, protocol="grouped").test for fold in range(3)])
    np.testing.assert_array_equal(np.sort(tests), np.arange(12))


def test_a_fixed_split_that_is_not_there_is_refused(small_paired):
    with pytest.raises(InputError, match="simulated has no split of its own for protocol 'fixed'; use grouped"):
        split_indices(small_paired, protocol="fixed")


def test_two_folds_suffice_where_validation_is_the_test(small_paired):
    split = split_indices(small_paired, folds=2, protocol="published")
    assert (len(split.train), len(split.test)) == (90, 90)
    with pytest.raises(InputError, match="1 fold leaves nothing to train on beside validation and test; use 2 or more"):
        split_indices(small_paired, folds=1, protocol="published")


def test_more_random_folds_than_samples_are_refused(write):
    with pytest.raises(InputError, match="there are 12 samples, fewer than the 13 folds"):
        split_indices(write(), folds=13, protocol="random")


def test_the_text_of_grouped_folds_says_where_no_groups_are_named(write):
    recipe = Recipe(protocol="grouped", folds=3)
    assert protocol_text(write(groups=np.arange(12) // 2), recipe) == "grouped, 3 folds, test fold 0, seed 0"
    assert protocol_text(write(groups=np.arange(12)), recipe) == (
        "grouped, 3 folds (no groups are named: one place may be on several sides), test fold 0, seed 0"
    )


def test_the_text_of_a_protocol_says_what_is_wrong_with_it(small_paired, own_split):
    def text(data, protocol, **changes):
        return protocol_text(data, Recipe(protocol=protocol, seed=7, **changes))

    assert text(small_paired, None) == "grouped, 5 folds, test fold 0, seed 7"
    assert text(small_paired, "random", folds=10, fold=3) == (
        "random, 10 folds (the same places are on several sides), test fold 3, seed 7"
    )
    assert "published, 5 folds (random folds, validation fold = test fold: scores are too good)" in text(
        small_paired, "published"
    )
    assert text(own_split, None) == text(own_split, "fixed") == "fixed, the set's own split, seed 7"
