#!/usr/bin/env python3
"""Prints runs side by side from their metrics.jsonl and summary.json.

usage: compare_runs.py RUN RUN [RUN ...] [--markdown] [--points N]
"""
import argparse
import json
import pathlib

ROWS = [
    ("workers", "{}"), ("protection", "{}"), ("weights", "{}"), ("offloaded_layers", "{}"),
    ("offloaded_flop_fraction", "{:.3f}"), ("encryptions_per_step", "{:.0f}"), ("steps", "{}"),
    ("final_train_loss", "{:.4f}"), ("test_accuracy", "{:.4f}"), ("samples_per_second", "{:.0f}"),
    ("tee_cpu_seconds_per_sample", "{:.5f}"), ("bytes_to_workers_per_sample", "{:.0f}"),
    ("bytes_from_workers_per_sample", "{:.0f}"), ("peak_resident_bytes", "{:.3g}"),
]


def load(run: pathlib.Path):
    summary = json.loads((run / "summary.json").read_text())
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    losses = {line["step"]: line["loss"] for line in lines if "loss" in line}
    tests = {line["step"]: line["test_accuracy"] for line in lines if "test_accuracy" in line}
    return summary, losses, tests


def smoothed(losses: dict, step: int, width: int) -> float:
    window = [losses[s] for s in range(max(1, step - width + 1), step + 1) if s in losses]
    return sum(window) / len(window)


def table(names, runs, points, markdown) -> list:
    steps = sorted(set.intersection(*(set(losses) for _, losses, _ in runs)))
    shown = [steps[round(i * (len(steps) - 1) / max(1, points - 1))] for i in range(points)] if steps else []
    width = max(1, len(steps) // (2 * max(1, points)))
    rows = [["", *names]]
    rows += [[key, *(form.format(summary[key]) for summary, _, _ in runs)] for key, form in ROWS]
    rows += [[f"loss, mean to step {s}", *(f"{smoothed(losses, s, width):.4f}" for _, losses, _ in runs)] for s in shown]
    tested = sorted(set.intersection(*(set(tests) for _, _, tests in runs)))
    rows += [[f"test accuracy, step {s}", *(f"{tests[s]:.4f}" for _, _, tests in runs)] for s in tested]
    if markdown:
        lines = ["| " + " | ".join(row) + " |" for row in rows]
        return [lines[0], "|" + "---|" * len(rows[0]), *lines[1:]]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return ["  ".join(cell.ljust(w) for cell, w in zip(row, widths)).rstrip() for row in rows]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=pathlib.Path)
    parser.add_argument("--markdown", action="store_true")
    parser.add_argument("--points", type=int, default=6, help="rows of the loss curve")
    arguments = parser.parse_args()
    runs = [load(run) for run in arguments.runs]
    print("\n".join(table([run.name for run in arguments.runs], runs, arguments.points, arguments.markdown)))


if __name__ == "__main__":
    main()
