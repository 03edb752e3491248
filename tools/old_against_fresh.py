#!/usr/bin/env python3
"""Do steps get slower as a run grows old? Trains one run, stops it (SIGSTOP), and then lets it and fresh runs of the same
training take steps in turns: what the machine does meanwhile meets both. Prints the master's CPU time a step, and its
resident memory.

usage: old_against_fresh.py [--apps build/release/apps] [--steps 400] [--turns 6]
"""

import argparse
import json
import os
import pathlib
import signal
import statistics
import subprocess
import tempfile
import time

TRAINING = (
    "--model resnet20 --data synthetic --image-size 16 --train-size 1024 --test-size 16 --batch-size 16 --seed 3 "
    "--lr 0.001 --tee-threads 1 --offload all"
).split()
FRESH_STEPS, WARM_UP, OLD_STEPS = 60, 20, 40
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("OPENBLAS_")}


class Run:
    """A master and its worker over shm://, in a run directory of their own."""

    def __init__(self, apps, folder, name, steps):
        self.metrics = pathlib.Path(folder) / name / "metrics.jsonl"
        uri = f"shm://age-{os.getpid()}-{name}"
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "env": ENVIRONMENT}
        self.worker = subprocess.Popen([apps / "tempo-worker", "--listen", uri, "--device", "cpu"], **quiet)
        time.sleep(1)
        out = self.metrics.parent
        command = [apps / "tempo", "train", *TRAINING, "--steps", str(steps), "--workers", uri, "--out", out]
        self.master = subprocess.Popen(command, **quiet)

    def milliseconds(self):
        """The master's CPU time of each step so far."""
        if not self.metrics.exists():
            return []
        whole_lines = self.metrics.read_text().split("\n")[:-1]
        steps = [json.loads(line) for line in whole_lines]
        return [1000 * step["tee_cpu_seconds"] for step in steps if "tee_cpu_seconds" in step]

    def wait_for(self, steps):
        while True:
            has_ended = self.master.poll() is not None
            if len(self.milliseconds()) >= steps:
                return
            if has_ended:
                raise SystemExit(f"old_against_fresh: the run ended with {self.master.returncode} before step {steps}")
            time.sleep(0.2)

    def signal(self, number):
        for process in (self.master, self.worker):
            process.send_signal(number)

    def resident_megabytes(self):
        status = pathlib.Path(f"/proc/{self.master.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0]) // 1024

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.signal(signal.SIGKILL)
        for process in (self.master, self.worker):
            process.wait()


def fresh_median(apps, folder, turn):
    with Run(apps, folder, f"fresh{turn}", FRESH_STEPS) as run:
        run.wait_for(FRESH_STEPS)
        return statistics.median(run.milliseconds()[WARM_UP:])


def old_median(run):
    begin = len(run.milliseconds())
    run.signal(signal.SIGCONT)
    run.wait_for(begin + OLD_STEPS)
    run.signal(signal.SIGSTOP)
    return statistics.median(run.milliseconds()[begin + 1 :])  # the first was interrupted


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--apps", type=pathlib.Path, default=pathlib.Path("build/release/apps"))
    parser.add_argument("--steps", type=int, default=400, help="before turns begin")
    parser.add_argument("--turns", type=int, default=6)
    options = parser.parse_args()
    if not (options.apps / "tempo").exists():
        parser.error(f"no tempo in {options.apps}, expected the folder that the programs were built in")

    old_steps = options.steps + (options.turns + 1) * 2 * OLD_STEPS
    with tempfile.TemporaryDirectory() as folder, Run(options.apps, folder, "old", old_steps) as run:
        run.wait_for(options.steps)
        run.signal(signal.SIGSTOP)
        print(f"after {options.steps} steps: {run.resident_megabytes()} MB")
        print("turn  fresh, ms  old, ms  of step  old, MB")
        fresh, old = [], []
        for turn in range(options.turns):
            fresh.append(fresh_median(options.apps, folder, turn))
            old.append(old_median(run))
            step = len(run.milliseconds())
            print(f"{turn:4}  {fresh[-1]:9.1f}  {old[-1]:7.1f}  {step:7}  {run.resident_megabytes():7}", flush=True)
        print(f"median of turns: fresh {statistics.median(fresh):.1f} ms, old {statistics.median(old):.1f} ms")


if __name__ == "__main__":
    main()
