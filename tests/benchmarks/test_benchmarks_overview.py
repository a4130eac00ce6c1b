import csv

import pytest
from click.testing import CliRunner

from edge.benchmarks.overview import main

HEAD = ["data", "protocol", "method", "modality", "n", "r2_mean", "r2_sd"]
HEAD += ["vs_single-matched_difference", "vs_single-matched_p"]


@pytest.fixture
def results(tmp_path):
    (tmp_path / "results").mkdir()
    (tmp_path / "RESULTS.md").write_text("# Results\n")
    return tmp_path


def write(results, name, lines):
    with open(results / "results" / f"methods-{name}.csv", "w", newline="") as file:
        csv.writer(file).writerows([HEAD, *lines])


def run(results):
    done = CliRunner().invoke(main, ["--results", str(results)])
    assert done.exit_code == 0, done.output
    page = (results / "RESULTS.md").read_text()
    assert f"    python -m edge.benchmarks.overview\n\n{done.stdout.rstrip()}\n<!-- /overview -->" in page
    return done.stdout.splitlines()


def fields(protocol, *, n=5, ours=0.3, p="0.01"):
    """The rows of one modality: taught is ahead of single-matched (0.25)."""
    scores = {"taught": ours, "mdico": 0.26, "mutual": 0.31, "single-matched": 0.25, "random-forest": 0.2}
    scores["single"] = 0.29
    lines = [
        ["fields", protocol, method, "sar", n, score, 0.1, f"{score - 0.25}", p if method == "taught" else "0.5"]
        for method, score in scores.items()
    ]
    for line in lines:
        if line[2] == "single-matched":
            line[-2:] = ["", ""]
    return lines


def test_each_student_has_a_line_and_each_protocol_a_sentence(results):
    write(results, "fields-random-5x1", fields("random", ours=0.252, p="0.9"))
    write(results, "fields-grouped-5x1", fields("grouped"))
    lines = run(results)
    assert lines[2:] == [
        "| fields | grouped 5x1 | sar | R² | 0.290 | 0.250 | 0.260 | 0.200 | 0.300 | +0.050 | 0.010 | mutual 0.310 |",
        "| fields | random 5x1 | sar | R² | 0.290 | 0.250 | 0.260 | 0.200 | 0.252 | +0.002 | 0.900 | mutual 0.310 |",
        "",
        "- Grouped folds, 1 students: `taught` is ahead of single-matched by 0.005 or more in 1 (p < .05: 1), behind "
        "by as much in 0 (p < .05: 0). It is ahead of single, which is half as large, in 1 of 1 and behind in 0, "
        "and ahead of its sensor's forest in 1 of 1.",
        "- Random folds, 1 students: `taught` is ahead of single-matched by 0.005 or more in 0 (p < .05: 0), behind "
        "by as much in 0 (p < .05: 0). It is ahead of single, which is half as large, in 0 of 1 and behind in 1, "
        "and ahead of its sensor's forest in 1 of 1.",
    ]


def test_a_student_that_is_behind_counts_as_behind(results):
    write(results, "fields-fixed-1x1", fields("fixed", n=1, ours=0.19, p=""))
    *_, line, _, sentence = run(results)
    assert "| 0.190 | -0.060 |  | mutual 0.310 |" in line
    assert "in 0 (p < .05: 0), behind by as much in 1 (p < .05: 0). It is ahead of single" in sentence
    assert "ahead of its sensor's forest in 0 of 1." in sentence


def test_a_clear_loss_is_not_counted_as_a_win(results):
    write(results, "fields-random-5x1", fields("random", ours=0.19, p="0.004"))
    assert "in 0 (p < .05: 0), behind by as much in 1 (p < .05: 1)." in run(results)[-1]


def test_the_table_with_the_most_trainings_counts_then_the_one_with_the_most_methods(results):
    write(results, "fields-grouped-5x1", fields("grouped", ours=0.31))
    write(results, "fields-grouped-5x3", fields("grouped", n=15, ours=0.32)[::3])  # taught and single-matched
    write(results, "fields-random-5x1", fields("random", ours=0.33)[:4])
    write(results, "fields-random-5x1-patch-bf16", fields("random", ours=0.34))
    found = [line.split(" | ") for line in run(results) if line.startswith("| fields")]
    assert [(line[1], line[7], line[8], line[-1]) for line in found] == [
        ("grouped 5x3", "", "0.320", " |"),
        ("random 5x1 patch-bf16", "0.200", "0.340", "mutual 0.310 |"),
    ]


def test_scores_of_the_published_protocol_are_left_out(results):
    write(results, "fields-published-5x1", fields("published"))
    write(results, "fields-grouped-5x1", fields("grouped"))
    assert not [line for line in run(results) if "published" in line]


def test_without_a_page_it_says_where_to_run_it(tmp_path):
    done = CliRunner().invoke(main, ["--results", str(tmp_path)])
    assert done.exit_code == 2
    assert "RESULTS.md is missing; run this in the repository" in done.stderr
