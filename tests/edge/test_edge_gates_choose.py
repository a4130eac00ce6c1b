"""INT8 that pays: which precision is used, and what is said."""

from typing import Any

import pytest

from edge.gates import choose
from edge.tasks import Task

CLASSES = Task("multiclass", "crop", ("oat", "rye", "pea"))


def rows(recall: dict[str, float | None], **p50: float | None) -> list[dict[str, Any]]:
    return [
        {
            "precision": name, "batch": batch, "latency_ms": {"p50": time and time * batch},
            "scores": None if recall.get(name) is None else {"macro_recall": recall[name]},
        }
        for name, time in p50.items()
        for batch in (1, 32)
    ]  # fmt: skip


GOOD = {"fp32": 0.8, "fp16": 0.8, "int8": 0.8}


def test_int8_that_failed_a_gate_is_not_used_however_fast() -> None:
    failed = [{"name": "worst class (rye): drop of its recall", "value": 0.0712, "bound": 0.05, "passed": False}]
    chosen, why = choose(CLASSES, rows(GOOD, fp32=3.0, int8=1.0), 0.01, 32, failed)
    assert chosen == "fp32"
    assert why[-1] == "INT8 does not pay: worst class (rye): drop of its recall is 0.0712 (bound 0.05)"


def test_int8_is_used_where_it_is_the_fastest() -> None:
    chosen, why = choose(CLASSES, rows(GOOD, fp32=3.0, fp16=2.0, int8=1.0), 0.01, 32)
    assert chosen == "int8"
    assert why == ["INT8 is used: the fastest at batch 32 (32 ms)"]


def test_int8_that_is_slower_is_not_used_and_that_is_said() -> None:
    chosen, why = choose(CLASSES, rows(GOOD, fp32=3.0, fp16=1.0, int8=2.0), 0.01, 32)
    assert chosen == "fp16"
    assert why == ["FP16 is used: the fastest at batch 32 (32 ms)", "INT8 does not pay: 64 ms, FP16 32 ms"]


def test_int8_that_is_fast_and_wrong_is_not_used() -> None:
    chosen, why = choose(CLASSES, rows(GOOD | {"int8": 0.72}, fp32=3.0, fp16=2.0, int8=1.0), 0.01, 32)
    assert chosen == "fp16"
    assert why[1] == "INT8 does not pay: it loses 10.00% of the metric (bound 1.00%)"


def test_without_test_data_the_fastest_is_used_and_accuracy_is_said_to_be_unknown() -> None:
    chosen, why = choose(CLASSES, rows({}, fp32=3.0, fp16=2.0, int8=1.0), 0.01, 32)
    assert chosen == "int8"
    assert why[-1] == "accuracy was not measured: give test data with --data"


def test_the_batch_size_decides() -> None:
    given = rows(GOOD, fp32=1.0, int8=2.0)
    given[3]["latency_ms"]["p50"] = 1.0  # INT8 at batch 32
    assert [choose(CLASSES, given, 0.01, batch)[0] for batch in (1, 32)] == ["fp32", "int8"]


def test_fp32_is_used_where_nothing_could_be_timed() -> None:
    chosen, why = choose(CLASSES, rows(GOOD, fp32=None, int8=None), 0.01, 32)
    assert (chosen, why) == ("fp32", ["INT8 does not pay: its latency is not known"])


@pytest.mark.parametrize("names", [("fp16", "int8"), ("int8",)])
def test_fp32_need_not_be_there(names: tuple[str, ...]) -> None:
    times = dict(zip(names, (2.0, 1.0), strict=False))
    assert choose(CLASSES, rows(GOOD, **times), 0.01, 32)[0] == min(times, key=lambda name: times[name])
