"""The command line as a user meets it: exit codes, one clear line for bad input, and a run from start to export.

usage: cli_test.py PATH_TO_TEMPO SOURCE_FOLDER
"""
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time
import unittest

from start_once import START_ONCE

TEMPO = sys.argv[1]
SMALL = ["--model", "lenet", "--train-size", "64", "--test-size", "16", "--batch-size", "16", "--tee-threads", "1"]


class CommandLine(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.path = pathlib.Path(self.folder.name)
        self.key = self.path / "key"
        self.environment = {**os.environ, **START_ONCE, "HOME": str(self.path), "XDG_CONFIG_HOME": str(self.path / "config")}
        self.tempo("keygen", "--out", self.key)

    def tearDown(self):
        self.folder.cleanup()

    def tempo(self, *arguments, code=0):
        done = subprocess.run([TEMPO, *map(str, arguments)], capture_output=True, text=True, env=self.environment,
                              timeout=120, check=False)
        self.assertEqual(done.returncode, code, done.stderr)
        return done

    def refused(self, *arguments, says):
        done = self.tempo(*arguments, code=2)
        self.assertEqual(done.stderr.count("\n"), 1, f"more than one line: {done.stderr}")
        self.assertIn(says, done.stderr)

    def train(self, name="run", *more):
        self.tempo("train", *SMALL, "--steps", 2, "--out", self.path / name, "--key", self.key, *more)
        return self.path / name

    def test_bad_flags_and_values_are_refused(self):
        out = self.path / "run"
        self.refused("train", "--colour", "red", says="--colour")
        self.refused("paint", says='got the command "paint", expected one of train,')
        self.refused("train", "--out", out, "--lr", "fast", says='--lr: got "fast", expected a number')
        self.refused("train", "--out", out, "--protection", "xor", says="expected none|permuted|rotated|oblique")
        self.refused("train", "--out", out, "--model", "resnet51", says='got "resnet51", expected one of')
        self.refused("train", "--out", out, "--data", self.path / "absent", says="no such folder")
        self.refused("train", "--out", out, "--batch-size", 1, says="expected at least 2")
        self.refused("train", "--out", out, "--protection", "none", says="--allow-unprotected")
        self.refused("train", "--out", out, "--integrity", "often", says="expected off, always")
        self.refused("train", *SMALL, "--out", out, "--workers", "http://host:1", says="expected local, inprocess:")
        self.refused("train", *SMALL, "--out", out, "--workers", "grpc://host:1", says="--tls")
        self.refused("train", says="expected a run directory")
        self.assertFalse(out.exists())

    def test_a_bad_configuration_file_is_refused(self):
        file = self.path / "a.toml"
        file.write_text("modle = 'lenet'\n")
        self.refused("train", "--config", file, says='unknown key "modle"')
        file.write_text("model = 'lenet\n")
        self.refused("train", "--config", file, says="line 1")
        self.refused("train", "--config", self.path / "absent.toml", says="cannot be read")

    def test_a_flag_overrides_the_same_key_of_the_configuration_file(self):
        file = self.path / "a.toml"
        file.write_text(f"model = 'lenet'\nsteps = 1\nbatch-size = 8\ntrain-size = 16\ntest-size = 8\nlr = 0.5\n"
                        f"out = '{self.path}/run'\nkey = '{self.key}'\n")
        self.tempo("train", "--config", file, "--lr", "0.25")
        resolved = (self.path / "run/config.toml").read_text()
        self.assertIn("lr = 0.25\n", resolved)
        self.assertIn("batch-size = 8\n", resolved)
        self.assertIn("reuse = 'split'\n", resolved)
        self.assertIn("weights = 'returned'\n", resolved)

    def test_bad_data_sets_are_refused(self):
        data = self.path / "data"
        data.mkdir()
        record = bytes([3]) + bytes(3072)
        (data / "test_batch.bin").write_bytes(record)
        train = ["train", *SMALL, "--data", data, "--out", self.path / "run", "--key", self.key]
        self.refused(*train, says="holds no data_batch_N.bin")
        (data / "data_batch_1.bin").write_bytes(record * 4 + b"torn")
        self.refused(*train, says="4 whole records and 4 bytes left over")
        (data / "data_batch_1.bin").write_bytes(record + bytes([10]) + bytes(3072))
        self.refused(*train, says="record 2 has label 10, expected 0 to 9")
        self.assertFalse((self.path / "run").exists())

    def test_a_run_can_be_trained_evaluated_predicted_with_and_exported(self):
        for name in START_ONCE:  # as a user starts it
            del self.environment[name]
        run = self.train("run", "--seed", 3)
        summary = json.loads((run / "summary.json").read_text())
        for name in ("model", "protection", "reuse", "weights", "workers", "parameters", "steps", "samples_per_second",
                     "step_seconds_median", "tee_cpu_seconds_per_sample", "bytes_to_workers_per_sample",
                     "bytes_from_workers_per_sample", "encryptions_per_step", "offloaded_flop_fraction", "integrity",
                     "final_train_loss", "test_accuracy"):
            self.assertIn(name, summary)
        self.assertEqual(set(summary["integrity"]), {"checks", "failures"})
        self.assertEqual(len([line for line in (run / "metrics.jsonl").read_text().splitlines() if '"loss"' in line]), 2)
        self.assertTrue(list((run / "tensorboard").iterdir()))
        self.assertIn("16 images, accuracy", self.tempo("eval", "--run", run, "--key", self.key).stdout)
        images = self.path / "images.bin"
        images.write_bytes((bytes([1]) + bytes(3072)) * 3)
        lines = self.tempo("predict", "--run", run, "--images", images, "--key", self.key).stdout.splitlines()
        self.assertEqual([line.split("\t")[0] for line in lines], ["0", "1", "2"])
        exported = self.path / "w.safetensors"
        self.tempo("export", "--run", run, "--out", exported, "--key", self.key)
        self.assertEqual(exported.stat().st_mode & 0o777, 0o600)
        again = self.tempo("train", *SMALL, "--steps", 1, "--init", exported, "--out", self.path / "b", "--key", self.key)
        self.assertIn("warning: --init", again.stderr)

    def test_a_run_is_never_overwritten(self):
        run = self.train()
        before = {file: file.read_bytes() for file in run.rglob("*") if file.is_file()}
        self.refused("train", *SMALL, "--out", run, "--key", self.key, says="already holds a run")
        self.refused("train", "--resume", run, "--key", self.key, says="has done 2 steps")
        self.assertEqual(before, {file: file.read_bytes() for file in run.rglob("*") if file.is_file()})

    def test_bad_checkpoints_and_keys_are_refused(self):
        run = self.train()
        other_key = self.path / "key2"
        self.tempo("keygen", "--out", other_key)
        self.refused("eval", "--run", run, "--key", other_key, says="sealed under key")
        self.refused("eval", "--run", self.path / "absent", "--key", self.key, says="cannot be read")
        self.refused("train", "--resume", run, "--key", self.key, "--steps", 4, "--model", "mlp", says="expected mlp")
        checkpoint = run / "checkpoint.tempo"
        whole = checkpoint.read_bytes()
        checkpoint.write_bytes(whole[:-20])
        self.refused("eval", "--run", run, "--key", self.key, says="checkpoint.tempo")
        checkpoint.write_bytes(whole[:100] + bytes([whole[100] ^ 1]) + whole[101:])
        self.refused("eval", "--run", run, "--key", self.key, says="checkpoint.tempo")
        checkpoint.write_bytes(whole)
        self.tempo("eval", "--run", run, "--key", self.key)
        self.refused("keygen", "--out", other_key, says="key2")

    def test_an_interrupted_run_is_saved_and_can_be_resumed(self):
        run = self.path / "run"
        arguments = [TEMPO, "train", *SMALL, "--steps", "100000", "--out", str(run), "--key", str(self.key)]
        with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                              env=self.environment) as process:
            deadline = time.monotonic() + 60
            while not (run / "checkpoint.tempo").exists() and time.monotonic() < deadline:
                time.sleep(0.05)
            process.send_signal(signal.SIGINT)
            out, _ = process.communicate(timeout=60)
        self.assertEqual(process.returncode, 0)
        self.assertIn(f"tempo train --resume {run}", out)
        steps = json.loads((run / "summary.json").read_text())["steps"]
        self.tempo("train", "--resume", run, "--key", self.key, "--steps", steps + 3)
        lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        self.assertEqual([line["step"] for line in lines if "loss" in line], list(range(1, steps + 4)))

    def test_plan_shows_every_layer(self):
        table = self.tempo("plan", "--model", "resnet20", "--batch-size", 64, "--offload", "all").stdout
        self.assertIn("first layer: reads raw inputs", table)
        self.assertIn("last layer: its gradient shows labels", table)
        self.assertIn("18 of 20 products offloaded", table)


if __name__ == "__main__":
    sys.argv[1:] = []
    unittest.main(verbosity=1)
