import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from edge.benchmarks import figures
from edge.benchmarks.headline import headlines, speedup
from edge.benchmarks.report import Report, gate, make_report, published_schema, read_report, table, validate_report
from edge.errors import InputError
from edge.tasks import Task

# What edge.benchmarks.schema understands, and the words that say nothing about a value.
WORDS = {"type", "const", "enum", "required", "properties", "items", "minItems", "maxItems", "minimum", "$ref"}
SILENT = {"$schema", "$id", "$defs", "title", "description"}


def test_a_report_fits_the_published_schema(report: Report) -> None:
    jsonschema.Draft202012Validator.check_schema(published_schema())
    jsonschema.validate(report, published_schema())
    validate_report(json.loads(json.dumps(report)))


def test_the_schema_uses_only_words_that_our_checks_understand() -> None:
    def schemas(schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
        yield schema
        inner = [*schema.get("properties", {}).values(), *schema.get("$defs", {}).values()]
        for part in [*inner, *([schema["items"]] if "items" in schema else [])]:
            yield from schemas(part)

    assert {word for schema in schemas(published_schema()) for word in schema} <= WORDS | SILENT


def broken_reports(report: Report) -> Iterator[tuple[str, Report]]:
    """Each required key left out, and each value replaced by one of another type, everywhere in the document."""

    def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
        for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
            yield (*path, key)
            yield from places(value[key], (*path, key))

    for path in places(report):
        for change in ("absent", {}, [], -1, 0.5, "text", True, None):
            changed = copy.deepcopy(report)
            part = changed
            for key in path[:-1]:
                part = part[key]
            if change == "absent":
                del part[path[-1]]
            else:
                part[path[-1]] = change
            yield f"{path} {change!r}", changed


def add_everything(report: Report) -> None:
    """One of each part that `edge bench` can add."""
    graph = {"method": "mdico", "precision": "int8", "modality": "optical", "engine": "onnxruntime", "threads": 1}
    times = {"p50": 0.1, "p90": 0.2, "p99": None, "mean": 0.1, "n": 100, "ci95": {"p50": [0.09, 0.11]}, "drift": 1.0}
    power = {
        "power_w": 5.0, "idle_w": 2.0, "source": "rapl", "rate_hz": 20.0, "temperature_c": {}, "clock_drop": None,
        "throttled": None, "notes": [],
    }  # fmt: skip
    spread = {"median": 2.0, "min": 1.0, "max": 3.0}
    report["results"][0] |= {
        "engine_ms": times, "copy_ms": {"in": times, "out": times}, "power": power, "throttled": None,
        "per_class": [{"name": "wheat", "measure": "recall", "n": 3, "value": 0.5, "ci95": [0.4, 0.6]}],
    }  # fmt: skip
    report["scenarios"] = [
        graph | {
            "scenario": "server", "samples_per_query": 1, "queries": 662, "duration_s": 1.0, "latency_ms": times,
            "percentile": "p99", "estimate_ms": 0.4, "throughput_per_s": 660.0, "rate_per_s": 650.0, "bound_ms": 5.0,
            "largest_batch": 8, "attempts": [{"rate_per_s": 650.0, "queries": 662, "late": 1, "held": True}],
        }
    ]  # fmt: skip
    names = ("import_ms", "load_ms", "first_ms", "second_ms", "process_ms")
    report["cold_start"] = [graph | {"n": 5} | dict.fromkeys(names, spread)]
    window = {"t_s": 1.0, "n": 9, "p50": 0.1, "p90": None, "p99": None, "mean": 0.1, "temperature_c": 40.0}
    report["sustained"] = [
        graph | {
            "batch": 1, "duration_s": 2.0, "queries": 9, "windows": [window | {"power_w": None}], "slowdown": 1.0,
            "energy_mj": 0.2, "power": power,
        }
    ]  # fmt: skip


def test_our_checks_agree_with_jsonschema_on_every_small_damage(report: Report) -> None:
    report["results"] = report["results"][:1]
    add_everything(report)
    validator = jsonschema.Draft202012Validator(published_schema())
    refused = 0
    for what, changed in broken_reports(report):
        try:
            validate_report(changed)
            ours = True
        except InputError as error:
            ours = "latency_histogram needs" in error.message  # a rule beyond the schema
        assert ours == validator.is_valid(changed), what
        refused += not ours
    assert refused > 200


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("schema",), "edge.report/9", "reads 'edge.report/1'"),
        (("results", 0, "latency_ms", "p50"), "fast", r"results\[0\].latency_ms.p50 must be number or null"),
        (("results", 1, "metric"), float("nan"), r"results\[1\].metric must be"),
        (("results", 0, "metric_ci95"), [0.1], r"metric_ci95 holds 1 values"),
        (("results", 0, "latency_histogram", "counts"), [1], "one more edge"),
        (("task", "kind"), "guessing", "must be one of binary, multiclass"),
    ],
)
def test_damage_is_named_with_its_place(report: Report, path: tuple[Any, ...], value: Any, message: str) -> None:
    part: Any = report
    for key in path[:-1]:
        part = part[key]
    part[path[-1]] = value
    with pytest.raises(InputError, match=message):
        validate_report(report)


def test_a_document_that_is_no_object_is_refused() -> None:
    with pytest.raises(InputError, match="must be object"):
        validate_report([1])


def test_reports_are_read_from_a_file_or_a_folder(report: Report, tmp_path: Path) -> None:
    (tmp_path / "report.json").write_text(json.dumps(report))
    assert read_report(tmp_path) == read_report(tmp_path / "report.json") == report
    with pytest.raises(InputError, match=r"absent.json is missing"):
        read_report(tmp_path / "absent.json")


def test_figures_that_are_not_finite_become_null(rows: list[dict[str, Any]]) -> None:
    rows[0]["throughput_per_s"] = float("inf")
    made = make_report(
        dataset=None, modality="optical", task=Task("regression"), protocol=None, results=rows,
        gates=[gate("drop", 0.01, float("inf"), False)],
    )  # fmt: skip
    assert made["results"][0]["throughput_per_s"] is None
    assert made["gates"] == [{"name": "drop", "bound": 0.01, "value": None, "passed": False}]
    assert made["metric"] == {"name": "r2", "higher_is_better": True}


def doubts(rows: list[dict[str, Any]], **machine: Any) -> list[str]:
    facts = {"cpu": "x", "cores": 1, "gpu": None, "board": None, "power_mode": None, "versions": {}} | machine
    made = make_report(
        dataset=None, modality="optical", task=Task("regression"), protocol=None, results=rows, machine=facts
    )
    return list(made["warnings"])


def test_a_quiet_machine_gives_no_warning(rows: list[dict[str, Any]]) -> None:
    assert doubts(rows, governor="performance") == []


def test_what_makes_figures_doubtful_is_said(rows: list[dict[str, Any]]) -> None:
    rows[0]["other_load"] = 1.26
    rows[0]["latency_ms"] |= {"p90": 0.4, "p99": None, "n": 100}
    rows[2]["metric_ci95"] = None
    assert doubts(rows, governor="powersave") == [
        "Something else kept up to 1.3 cores busy while latency was measured.",
        "The processor's clock follows the governor 'powersave'; latency is steadier with 'performance'.",
        "The latency of single FP32 at batch 1 is unsteady: p90 is 2.0 x p50.",
        "100 samples at batch 1 are too few for p99; measure longer.",
        "There is no interval for the accuracy: all samples are of one group.",
    ]


def test_the_table_shows_precisions_and_methods_side_by_side(report: Report) -> None:
    report["results"][7]["latency_ms"]["p50"] = None
    head, rule, *lines = table(report).splitlines()
    assert "average accuracy [95 %]" in head
    assert "p50 ms @256" in head
    assert set(rule) == {"─", " "}
    assert [line.split()[:2] for line in lines] == [
        ["single", "FP32"],
        ["single", "INT8"],
        ["mdico", "FP32"],
        ["mdico", "INT8"],
    ]
    assert "0.780 [0.760, 0.800]  " in lines[0]
    assert "  0.200   0.220   0.260  " in lines[0]
    assert lines[0].endswith("1.90 MB")
    assert lines[3].split()[-4:-2] == ["n/a", "52,300"]


def test_the_table_of_several_modalities_names_them(report: Report) -> None:
    report["modality"] = "optical, sar"
    assert table(report).splitlines()[2].startswith("optical single")


def test_an_empty_report_has_a_table_too(report: Report) -> None:
    assert len(table(report | {"results": []}).splitlines()) == 2


def test_headlines_are_ratios_of_what_was_measured_together(report: Report) -> None:
    assert speedup(report["results"], "mdico", 256) == pytest.approx(4.0)
    assert [headline.value for headline in headlines(report)] == ["4.0 ×", "4.0 ×", "−0.002", "27 %", "+0.040"]
    only_float = [row for row in report["results"] if row["precision"] == "fp32"]
    assert [headline.value for headline in headlines(report | {"results": only_float})] == ["+0.040"]
    assert headlines(report | {"results": []}) == []


def test_headlines_keep_modalities_apart(report: Report) -> None:
    optical = [row for row in report["results"] if row["method"] == "mdico" and row["batch"] == 1]
    sar = [row | {"modality": "sar", "metric": 0.5, "model_bytes": 1000} for row in optical]
    found = headlines(report | {"modality": "optical, sar", "results": [*optical, *sar]})
    assert [(one.value, one.text.partition(":")[0]) for one in found] == [
        ("4.0 ×", "optical"), ("−0.002", "optical"), ("27 %", "optical"),
        ("4.0 ×", "sar"), ("+0.000", "sar"), ("100 %", "sar"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.08412, "0.0841"),
        (1.3249, "1.32"),
        (17.96, "18.0"),
        (99.96, "100"),
        (27312.0, "27,300"),
        (0, "0"),
        (-3.14159, "-3.14"),
    ],
)
def test_figures_have_three_significant_digits(value: float, text: str) -> None:
    assert figures.significant(value) == text


def test_figures_that_are_null_are_not_available() -> None:
    said = (figures.milliseconds, figures.per_second, figures.size, figures.megabytes, figures.measure, figures.percent)
    assert {say(None) for say in said} == {"n/a"}
    assert figures.with_interval(0.5, None) == "0.500"
    assert figures.short(0.01) == "0.01"
    assert figures.size(520_000) == "520 kB"
