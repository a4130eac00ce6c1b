import numpy as np
import pytest

from edge.errors import InputError
from edge.tasks import Task
from edge.train.splits import grouped_folds, split_indices


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


def test_too_few_groups_are_refused(write):
    with pytest.raises(InputError, match="there are 6 groups, fewer than the 7 folds; use at most 6"):
        split_indices(write(), folds=7)


@pytest.mark.parametrize("fold", [-1, 5])
def test_a_fold_out_of_range_is_refused(small_paired, fold):
    with pytest.raises(InputError, match=f"fold {fold} is out of range: there are 5 folds, so use 0 to 4"):
        split_indices(small_paired, fold)


def test_another_fold_of_a_published_split_is_refused(write):
    with pytest.raises(InputError, match="has a published split, so use 0"):
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
