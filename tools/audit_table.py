#!/usr/bin/env python3
"""The findings of an audit as CSV: one row for each setting, start, layer and thing that an attack recovers.

    tools/audit_table.py AUDIT.json OUT.csv

AUDIT.json is what `tempo-audit run` and `tempo-audit report` write. Findings without anything to attack have no row.
"""
import csv
import json
import pathlib
import sys

COLUMNS = ("setting", "start", "layer", "attack", "target", "measure", "score", "chance", "noise", "beats_chance",
           "counterfactual", "given_truth", "steps_to_win", "note")


def cell(value):
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    return "" if value is None else value


def write(results, file):
    victim = results["victim"]
    file.write(f"# {results['date']}, {results['machine']}, tempo {results['version']}; {victim['model']} on "
               f"{victim['data']}, {victim['test_accuracy']:.1%} on test images, "
               f"{victim['steps_recorded']} steps recorded\n")
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(COLUMNS)
    for finding in results["findings"]:
        if finding["applicable"]:
            writer.writerow([cell(finding[column]) for column in COLUMNS])


def main(arguments):
    if len(arguments) != 2:
        print(__doc__, file=sys.stderr)
        sys.exit(2)
    source, destination = arguments
    with open(destination, "w", newline="", encoding="utf-8") as file:
        write(json.loads(pathlib.Path(source).read_text(encoding="utf-8")), file)


if __name__ == "__main__":
    main(sys.argv[1:])
