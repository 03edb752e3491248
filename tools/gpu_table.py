#!/usr/bin/env python3
"""Makes gpu_bench.json and gpu_bench.md of what gpu_bench.sh measured."""
import argparse
import datetime
import json
import pathlib
import subprocess

NAMES = {"unprotected": "unprotected, on the device", "local": "wholly in the TEE", "none": "Tempo, nothing hidden",
         "permuted": "Tempo, `permuted`", "permuted_whole": "the same, batches not sliced",
         "permuted_bf16": "Tempo, `permuted`, bf16 wire, TF32 products",
         "rotated_resident": "Tempo, `rotated`, resident",
         "rotated_returned": "Tempo, `rotated`, returned",
         "oblique": "Tempo, `oblique` (default)"}


def busy_share(path, begin, end):
    """Mean utilisation of the device, of 1, between its first and its last use within a run."""
    if not path.exists():
        return None
    values = []
    for line in path.read_text().splitlines():
        stamp, _, percent = line.partition(",")
        try:
            at = datetime.datetime.strptime(stamp.strip(), "%Y/%m/%d %H:%M:%S.%f").timestamp()
            if begin <= at <= end:
                values.append(int(percent))
        except ValueError:
            continue  # the line that was being written when the sampler ended
    used = [i for i, value in enumerate(values) if value > 0]
    if not used:
        return None
    values = values[used[0]:used[-1] + 1]
    return sum(values) / len(values) / 100


def read(out, model):
    """{setting: row}; a row that did not count is None."""
    try:
        rows = json.loads((out / f"{model}.json").read_text())["benchmarks"]
    except (OSError, ValueError, KeyError):
        return {}
    measured = {}
    for row in rows:
        setting = row["name"].split("/")[1]
        measured[setting] = None if row.get("error_occurred") else row
        if measured[setting] and "begin_s" in row:
            row["device_busy"] = busy_share(out / f"{model}.util", row["begin_s"], row["end_s"])
    return measured


def device_name(device):
    if device == "cpu":
        return "the CPU (a trial of the script)"
    names = subprocess.run(["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"], capture_output=True, text=True)
    return names.stdout.splitlines()[0] if names.stdout else device


def ratio(value, base):
    return "" if value is None or base is None else f"{value / base:.2f}"


def table(model, rows):
    speeds = {setting: row["samples/s"] for setting, row in rows.items() if row}
    lines = [f"**{model}**", "",
             "| setting | samples/s | over wholly in the TEE | of unprotected | TEE CPU ms a sample | device waits |",
             "|---|---|---|---|---|---|"]
    for setting, name in NAMES.items():
        if setting not in rows:
            continue
        row = rows[setting]
        if row is None:
            lines.append(f"| {name} | not measured | | | | |")
            continue
        tee = f"{row['tee_ms']:.1f}" if "tee_ms" in row else ""
        busy = row.get("device_busy")
        waits = "" if busy is None or setting == "local" else f"{100 * (1 - busy):.0f}%"
        lines.append(f"| {name} | {row['samples/s']:.1f} | {ratio(row['samples/s'], speeds.get('local'))} | "
                     f"{ratio(row['samples/s'], speeds.get('unprotected'))} | {tee} | {waits} |")
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--device", required=True)
    parser.add_argument("measured", nargs="+", help="models")
    args = parser.parse_args()
    models = {model: read(args.out, model) for model in args.measured}
    device = device_name(args.device)
    text = f"Device of the worker: {device}. Samples a second are wall clock; the device's waiting is from its own counter.\n\n"
    text += "\n".join(table(model, rows) for model, rows in models.items())
    (args.out / "gpu_bench.md").write_text(text)
    (args.out / "gpu_bench.json").write_text(json.dumps({"device": device, "models": models}, indent=1) + "\n")
    print(text)


if __name__ == "__main__":
    main()
