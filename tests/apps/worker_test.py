"""`tempo-worker` as a user meets it: a training over a worker process, one that dies, and what is refused.

usage: worker_test.py PATH_TO_TEMPO PATH_TO_TEMPO_WORKER
"""
import array
import json
import os
import pathlib
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
import unittest

from start_once import START_ONCE

TEMPO, WORKER = sys.argv[1:3]
HAS_METRICS = os.environ.get("TEMPO_METRICS", "ON") == "ON"
SMALL = ["--model", "resnet20", "--image-size", "16", "--train-size", "160", "--test-size", "16", "--batch-size", "16",
         "--tee-threads", "1", "--offload", "all", "--lr", "0.0001", "--seed", "5"]


def weights(path):
    content = path.read_bytes()
    size = struct.unpack("<Q", content[:8])[0]
    header = json.loads(content[8:8 + size])
    values = array.array("f")
    for name in sorted(header):
        if name != "__metadata__" and header[name]["dtype"] == "F32":
            begin, end = header[name]["data_offsets"]
            values.frombytes(content[8 + size + begin:8 + size + end])
    return values


def relative_difference(got, expected):
    return (sum((a - b) ** 2 for a, b in zip(got, expected, strict=True)) / sum(b ** 2 for b in expected)) ** 0.5


class Worker(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.path = pathlib.Path(self.folder.name)
        self.environment = {**os.environ, **START_ONCE, "HOME": str(self.path), "XDG_CONFIG_HOME": str(self.path / "config")}
        self.uri = f"shm://tempo-test-{os.getpid()}-{abs(hash(self._testMethodName)) % 1_000_000}"

    def tearDown(self):
        self.folder.cleanup()

    def start_worker(self, *more):
        worker = subprocess.Popen([WORKER, "--listen", self.uri, "--threads", "1", *map(str, more)], stdout=subprocess.PIPE,
                                  stderr=subprocess.STDOUT, text=True, env=self.environment)
        self.addCleanup(worker.stdout.close)
        self.addCleanup(worker.wait)
        self.addCleanup(worker.kill)
        self.assertIn(f"listening on {self.uri}, device cpu", worker.stdout.readline())
        return worker

    def train(self, name, workers, steps, *more):
        return [TEMPO, "train", *SMALL, "--workers", workers, "--steps", str(steps), "--out", str(self.path / name), *more]

    def run_program(self, *command, code):
        done = subprocess.run([*map(str, command)], capture_output=True, text=True, env=self.environment, timeout=240,
                              check=False)
        self.assertEqual(done.returncode, code, done.stderr)
        return done

    def test_a_worker_process_gives_the_weights_of_the_embedded_one(self):
        worker = self.start_worker()
        for name, workers in (("there", self.uri), ("here", "inprocess:")):
            self.run_program(*self.train(name, workers, 10), code=0)
            self.run_program(TEMPO, "export", "--run", self.path / name, "--out", self.path / f"{name}.st", code=0)
        summary = json.loads((self.path / "there/summary.json").read_text())
        self.assertGreater(summary["integrity"]["checks"], 300)
        self.assertEqual(summary["integrity"]["failures"], 0)
        there, here = weights(self.path / "there.st"), weights(self.path / "here.st")
        self.assertLess(relative_difference(there, here), 1e-5)
        worker.send_signal(signal.SIGTERM)
        self.assertEqual(worker.wait(timeout=20), 0)

    def scrape(self, address):
        """name{labels} -> value, by a request over a plain socket."""
        host, port = address.removeprefix("http://").removesuffix("/metrics").split(":")
        with socket.create_connection((host, int(port)), timeout=20) as connection:
            connection.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
            answer = connection.makefile().read()
        head, _, body = answer.partition("\n\n")
        self.assertIn(" 200 OK", head.splitlines()[0])
        lines = (line.rpartition(" ") for line in body.splitlines() if line and not line.startswith("#"))
        return {series: float(value) for series, _, value in lines}

    @unittest.skipUnless(HAS_METRICS, "built without Prometheus")
    def test_metrics_and_log_hold_numbers_that_match_the_run(self):
        log = self.path / "worker.log"
        worker = self.start_worker("--metrics", "localhost:0", "--log", log)
        address = worker.stdout.readline().removeprefix("metrics at ").strip()
        before = self.scrape(address)
        self.assertEqual(before["tempo_worker_sessions"], 0)
        self.assertEqual(before['tempo_worker_operations_total{operation="forward",outcome="done"}'], 0)
        # weights stay on the worker, which updates them
        self.run_program(*self.train("watched", self.uri, 3), "--protection", "rotated", code=0)
        deadline = time.time() + 20  # the worker sees the master leave a moment later
        while (seen := self.scrape(address))["tempo_worker_sessions"] > 0 and time.time() < deadline:
            time.sleep(0.05)
        self.check_counters(seen, json.loads((self.path / "watched/summary.json").read_text()))
        events = [json.loads(line) for line in log.read_text().splitlines()]
        self.assertEqual([event["event"] for event in events], ["session_began", "session_ended"])
        self.assertEqual(events[1]["reason"], "master_left")
        self.assertEqual(events[1]["done"], sum(value for series, value in seen.items()
                                                if series.startswith("tempo_worker_operations_total")))

    @unittest.skipUnless(HAS_METRICS, "built without Prometheus")
    def test_bad_metrics_addresses_are_refused(self):
        listening = socket.create_server(("localhost", 0))
        self.addCleanup(listening.close)
        taken = f"localhost:{listening.getsockname()[1]}"
        for address, says in (("9464", 'metrics: address: got "9464", expected HOST:PORT'),
                              (taken, f"metrics: cannot listen at {taken}: Address already in use")):
            done = self.run_program(WORKER, "--listen", self.uri, "--metrics", address, code=2)
            self.assertEqual(done.stderr.count("\n"), 1, done.stderr)
            self.assertIn(says, done.stderr)

    def check_counters(self, seen, summary):
        for operation in ("forward", "input_gradient", "weight_gradient", "update"):
            done = seen[f'tempo_worker_operations_total{{operation="{operation}",outcome="done"}}']
            self.assertGreater(done, 0, operation)
            self.assertEqual(seen[f'tempo_worker_operation_seconds_count{{operation="{operation}"}}'], done)
            self.assertGreater(seen[f'tempo_worker_operation_seconds_sum{{operation="{operation}"}}'], 0)
            self.assertEqual(seen[f'tempo_worker_operations_total{{operation="{operation}",outcome="refused"}}'], 0)
        self.assertGreater(seen["tempo_worker_operand_bytes_total"], 3 * 16 * summary["bytes_to_workers_per_sample"] / 2)
        self.assertGreater(seen["tempo_worker_reply_bytes_total"], 0)
        self.assertEqual(seen["tempo_worker_stored_bytes"], 0)
        self.assertEqual(seen['tempo_worker_sessions_ended_total{reason="master_left"}'], 1)
        self.assertEqual(seen['tempo_worker_sessions_ended_total{reason="protocol_error"}'], 0)

    def test_a_worker_that_dies_ends_the_run_with_one_line(self):
        worker = self.start_worker()
        run = subprocess.Popen(self.train("run", self.uri, 1000, "--checkpoint-interval", "2", "--worker-wait", "0"),
                               stdout=subprocess.DEVNULL,
                               stderr=subprocess.PIPE, text=True, env=self.environment)
        checkpoint = self.path / "run/checkpoint.tempo"
        deadline = time.time() + 120
        while not checkpoint.exists() and time.time() < deadline:
            time.sleep(0.1)
        worker.kill()
        _, error = run.communicate(timeout=60)
        self.assertEqual(run.returncode, 1, error)
        self.assertIn(f"{self.uri}: the worker ended", error.strip().splitlines()[-1])
        self.start_worker()
        self.run_program(TEMPO, "train", "--resume", self.path / "run", "--steps", "10", code=0)

    def test_bad_flags_and_names_in_use_are_refused(self):
        for flags, says in ((["--listen", "http://x"], "expected shm://NAME, grpc://HOST:PORT"), ([], "--listen"),
                            (["--listen", "shm://a/b"], "shm"), (["--listen", self.uri, "--device", "abacus"], "abacus"),
                            (["--listen", self.uri, "--threads", "many"], "--threads"),
                            (["--listen", self.uri, "--log", self.path / "no/log"], "log: cannot open"),
                            (["--listen", self.uri, "--collective", "nonsense"], "HOST:PORT"),
                            (["--listen", self.uri, "--collective-peer", "other"], "--collective-peer")):
            done = self.run_program(WORKER, *flags, code=2)
            self.assertEqual(done.stderr.count("\n"), 1, done.stderr)
            self.assertIn(says, done.stderr)
        self.start_worker()
        self.assertIn("served by another process already", self.run_program(WORKER, "--listen", self.uri, code=2).stderr)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1], verbosity=2)
