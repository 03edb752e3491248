#!/usr/bin/env python3
"""Prints what a demonstration showed, from its two run directories.

usage: demo_summary.py PLAIN BLINDED FOLDER
"""
import json
import pathlib
import sys


def load(run):
    summary = json.loads((run / "summary.json").read_text())
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return summary, [line["test_accuracy"] for line in lines if "test_accuracy" in line]


def main(plain_run, blinded_run, folder):
    plain, plain_tests = load(pathlib.Path(plain_run))
    blinded, blinded_tests = load(pathlib.Path(blinded_run))
    rows = [("", "plain, in the TEE", "blinded, over a worker")]
    rows += [(f"test accuracy, epoch {i + 1}", f"{plain_tests[i]:.1%}", f"{blinded_tests[i]:.1%}")
             for i in range(min(len(plain_tests), len(blinded_tests))) if (i + 1) % 2 == 0]
    rows += [
        ("products computed by the worker", str(plain["offloaded_layers"]), str(blinded["offloaded_layers"])),
        ("CPU time of the TEE, an image", *(f"{1e3 * s['tee_cpu_seconds_per_sample']:.1f} ms" for s in (plain, blinded))),
        ("to and from the worker, an image",
         *(f"{(s['bytes_to_workers_per_sample'] + s['bytes_from_workers_per_sample']) / 1e6:.1f} MB"
           for s in (plain, blinded))),
        ("results checked, found wrong", *(f"{s['integrity']['checks']}, {s['integrity']['failures']}"
                                           for s in (plain, blinded))),
    ]
    widths = [max(len(row[i]) for row in rows) for i in range(3)]
    print()
    for row in rows:
        print(f"  {row[0]:<{widths[0]}}  {row[1]:>{widths[1]}}  {row[2]:>{widths[2]}}")
    ratio = blinded["tee_cpu_seconds_per_sample"] / plain["tee_cpu_seconds_per_sample"]
    share = blinded["offloaded_flop_fraction"]
    print(f"""
Hidden: images, weights and gradients, from the worker that computed {share:.0%} of this training's arithmetic.
Cost:   {ratio:.1f} times the TEE's CPU time of plain training. This network is too small to gain; wide ones do (README).
Next:   open {folder}/worker_view.png and {folder}/report.html, then train on your own data: README.md, docs/privacy.md.""")


if __name__ == "__main__":
    if len(sys.argv) != 4:
        print(__doc__, file=sys.stderr)
        sys.exit(2)
    main(*sys.argv[1:])
