#!/usr/bin/env python3
"""Attacks 17 to 20 on every variant of `permuted`, beside `rotated`: runs tempo-audit once and prints the figures as
CSV (docs/measured/permuted.csv).

    tools/permuted_table.py TEMPO_AUDIT CIFAR VICTIM REFERENCE OUT    runs (some 18 minutes on two cores) and prints
    tools/permuted_table.py OUT/audit.json                            prints
"""
import csv
import json
import pathlib
import re
import subprocess
import sys

LAYERS = ["layer1.0.conv1", "layer1.0.conv2", "layer2.0.conv1", "layer3.2.conv1"]
ROTATED = ["rotated resident, tile 1, decoys 3", "rotated resident, tile 1", "rotated resident, tile 4",
           "rotated resident, tile full"]


def variants():
    """Names and flags of all 24: coefficients, reuse, tiles, wire."""
    for scales, coefficients in (("signed", "signed-real"), ("integer", "positive-integer")):
        for reuse in ("full", "none"):
            for tile in ("1", "4", "full"):
                for wire in ("float32", "bf16"):
                    name = f"permuted {scales}, reuse {reuse}, tile {tile}, {wire}"
                    yield (f"{name}: protection=permuted coefficients={coefficients} reuse={reuse} conv-tile={tile} "
                           f"weights=returned wire={wire}")


def run(program, cifar, victim, reference, out):
    command = [program, "run", "--data", cifar, "--victim", victim, "--reference", reference, "--out", out,
               "--steps", "2", "--no-tampering", "--no-surrogates", "--attack", "17", "18", "19", "20"]
    for layer in LAYERS:
        command += ["--layer", layer]
    for setting in ROTATED:
        command += ["--setting", setting]
    for setting in variants():
        command += ["--add-setting", setting]
    subprocess.run(command, check=True, stdout=sys.stderr)


def worst(findings, key):
    """A figure of the layer where the attack does worst."""
    found = min(findings, key=lambda f: f["score"], default=None)
    return f"{found[key]:.2f}" if found else "n/a"


def figure(findings):
    """The error in the note, largest over the layers; nothing where the attack does not beat guessing."""
    found = [re.search(r"error ([0-9.]+(?:e[-+][0-9]+)?)", f["note"]) for f in findings if f["beats_chance"]]
    return max((m.group(1) for m in found if m), key=float, default="nothing")


def row(results, setting):
    findings = [f for f in results["findings"] if f["setting"] == setting and f["start"] == "secret"
                and f["applicable"] and not f["counterfactual"]]

    def of(attack, target):
        return [f for f in findings if f["attack"] == attack and target in f["target"]]

    placed, linked, chained = of(17, "places"), of(18, "channels linked"), of(20, "linked")
    seconds = max((f["seconds"] for f in findings if f["attack"] == 19), default=0)
    return [setting, worst(placed, "score"), worst(placed, "chance"), worst(linked, "score"), worst(linked, "chance"),
            figure(of(18, "computed")), worst(chained, "score"), worst(chained, "chance"),
            figure(of(19, "images, colours known")), figure(of(19, "colours matched")), f"{seconds:.0f}"]


def print_table(results):
    print(f"# {results['date']}, {results['machine']}, tempo {results['version']}")
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(["setting", "tiles placed", "chance", "channels linked", "chance", "next layer: relative error",
                     "channels linked over 18 layers", "chance", "images: grey levels, colours known",
                     "images: grey levels, colours matched", "attack 19: seconds"])
    for setting in results["settings"]:
        writer.writerow(row(results, setting["name"]))


def main(arguments):
    if len(arguments) not in (1, 5):
        print(__doc__, file=sys.stderr)
        sys.exit(2)
    if len(arguments) == 5:
        run(*arguments)
        arguments = [pathlib.Path(arguments[4]) / "audit.json"]
    print_table(json.loads(pathlib.Path(arguments[0]).read_text()))


if __name__ == "__main__":
    main(sys.argv[1:])
