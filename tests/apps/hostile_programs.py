"""All programs in surroundings that are against them: how they are started there, and what they have to work on."""
import concurrent.futures
import json
import os
import pathlib
import re
import resource
import shlex
import signal
import subprocess
import tempfile
import unittest

from start_once import START_ONCE

FULL, CLOSED, NO_READER = "full", "closed", "no reader"
SMALL = ["--model", "mlp", "--data", "synthetic", "--train-size", "64", "--test-size", "16", "--batch-size", "16",
         "--tee-threads", "1"]
KILLED_BY_SIGPIPE = -signal.SIGPIPE


class Done:
    """How a program ended."""

    def __init__(self, command, code, out, err):
        self.command, self.code, self.out, self.err = command, code, out, err

    def __str__(self):
        return f"{self.command} ended with {self.code}, stdout {self.out[-300:]!r}, stderr {self.err[-300:]!r}"


def listing(folder):
    """Every file and folder below, and how large: what a command that fails must leave as it is."""
    return sorted((os.path.relpath(path, folder), os.path.getsize(path) if os.path.isfile(path) else -1)
                  for root, folders, files in os.walk(os.fsencode(folder)) for name in folders + files
                  for path in [os.path.join(root, name)])


def start(command, streams=(), **more):
    """A program with some of its standard streams, by number, FULL, CLOSED, or with NO_READER; the rest are pipes."""
    streams = dict(streams)
    redirections = {FULL: "{}>/dev/full", CLOSED: "{}>&-"}
    words = [redirections[state].format(number) for number, state in streams.items() if state != NO_READER]
    line = ["/bin/sh", "-c", f"exec \"$@\" {' '.join(words)}", "sh", *command]
    arguments = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **more}
    if NO_READER not in streams.values():
        return subprocess.Popen(line, **arguments)
    reader, writer = os.pipe()
    os.close(reader)
    for number, state in streams.items():
        if state == NO_READER:
            arguments["stdout" if number == 1 else "stderr"] = writer
    try:
        return subprocess.Popen(line, **arguments)
    finally:
        os.close(writer)


class Case(unittest.TestCase):
    """One run, its key, evidence and a service are shared by all tests, which change none of them."""
    tempo = worker = audit = bench = None  # paths of the programs; audit and bench may be left out of the build

    @classmethod
    def setUpClass(cls):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        cls.base = pathlib.Path(folder.name)
        cls.base.chmod(0o755)
        cls.environment = {**os.environ, **START_ONCE, "HOME": str(cls.base / "home"), "LC_ALL": "C.UTF-8"}
        cls.environment.pop("XDG_CONFIG_HOME", None)
        cls.key, cls.run_folder, cls.images = cls.base / "key", cls.base / "run", cls.base / "images.bin"
        cls.images.write_bytes(bytes(3073) * 3)
        cls.bench_result = cls.base / "bench.json"
        cls.bench_result.write_text(json.dumps({"benchmarks": [
            {"name": "memcpy", "run_type": "iteration", "real_time": 1.5}]}))
        cls.start_service()
        cls.policy, cls.other_policy = cls.base / "policy.json", cls.base / "other.json"
        for command in ([cls.tempo, "keygen", "--out", cls.key],
                        [cls.tempo, "keygen", "--out", cls.base / "home/.config/tempo/checkpoint.key"],
                        [cls.tempo, "train", *SMALL, "--steps", "2", "--key", cls.key, "--out", cls.run_folder],
                        [cls.tempo, "policy", "init", "--evidence", cls.base / "evidence.json", "--out", cls.policy]):
            done = cls.run_program(command)
            assert done.code == 0, str(done)
        cls.other_policy.write_text(re.sub(r'"[0-9a-f]{64}"', f'"{"07" * 32}"', cls.policy.read_text()))
        done = cls.run_program(cls.client("submit", "--key", cls.key, "--wait", "--", *SMALL[:2], "--steps", "1",
                                          "--train-size", "32", "--test-size", "16", "--batch-size", "16"))
        assert done.code == 0, str(done)
        cls.job = re.search(r"^job ([0-9a-f]{32})$", done.out, re.M)[1]

    @classmethod
    def start_service(cls):
        (cls.base / "home/.config/tempo").mkdir(parents=True)
        cls.service = start(cls.serve("state", "--evidence", str(cls.base / "evidence.json")), stderr=subprocess.DEVNULL,
                            env=cls.environment, text=True)
        cls.addClassCleanup(cls.service.stdout.close)
        cls.addClassCleanup(cls.service.wait)
        cls.addClassCleanup(cls.service.kill)
        cls.port = re.match(r"serving at 127\.0\.0\.1:(\d+)", cls.service.stdout.readline())[1]

    @classmethod
    def serve(cls, state, *more):
        return [cls.tempo, "serve", "--listen", "127.0.0.1:0", "--state", str(cls.base / state), "--tee",
                "insecure-simulated", "--tee-threads", "1", *more]

    @classmethod
    def client(cls, command, *more, policy=None):
        return [cls.tempo, command, "--server", f"127.0.0.1:{cls.port}", "--policy", policy or cls.policy, *more]

    @classmethod
    def run_program(cls, command, streams=(), timeout=240, **more):
        """@param command of text, bytes and paths."""
        command = [word if isinstance(word, bytes) else str(word) for word in command]
        process = start(command, streams, **{"env": cls.environment, **more})
        try:
            out, err = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            out, err = process.communicate()
            err += b"\n[it had to be killed]"
        decode = [(text or b"").decode("utf-8", "surrogateescape") for text in (out, err)]
        shown = " ".join(shlex.quote(str(word)) for word in command)
        return Done(f"{shown} with {dict(streams)}", process.returncode, *decode)

    def setUp(self):
        folder = tempfile.TemporaryDirectory(dir=self.base)
        self.addCleanup(folder.cleanup)
        self.path = pathlib.Path(folder.name)
        self.path.chmod(0o755)

    def check_all(self, cases, check):
        """Calls `check(*case)` for each, two at a time: starting a program is most of its time."""
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            results = [(case, pool.submit(check, *case)) for case in cases]
        for case, result in results:
            with self.subTest(case=str(case)[:200]):
                result.result()

    def check_one_line(self, done, says=""):
        """One line in the last place that says what is wrong, and none of a crash."""
        lines = done.err.split("\n")
        self.assertEqual(lines[-1], "", str(done))
        self.assertEqual([line for line in lines if line.startswith(("tempo: ", "tempo-"))], [lines[-2]], str(done))
        self.assertIn(says, lines[-2], str(done))

    def outputs(self):
        """Commands whose result is what they print, by name."""
        commands = {
            "version": [self.tempo, "--version"], "help": [self.tempo, "--help"], "help of train": [self.tempo, "train", "--help"],
            "plan": [self.tempo, "plan", "--model", "mlp"],
            "eval": [self.tempo, "eval", "--run", self.run_folder, "--key", self.key],
            "predict": [self.tempo, "predict", "--run", self.run_folder, "--key", self.key, "--images", self.images],
            "policy": [self.tempo, "policy", "init", "--evidence", self.base / "evidence.json"],
            "verify": self.verify(self.policy),
            "status": self.client("status"), "logs": self.client("logs", self.job),
            "worker's version": [self.worker, "--version"], "worker's help": [self.worker, "--help"],
            "audit's version": [self.audit, "--version"], "audit's settings": [self.audit, "settings"],
            "compare": [self.bench, "compare", self.bench_result, self.bench_result]}
        return {name: command for name, command in commands.items() if command[0]}

    def refusals(self):
        """Commands that end with an error: name, exit code, command."""
        absent = self.base / "absent"
        cases = [("command", 2, [self.tempo, "paint"]), ("flag", 2, [self.tempo, "train", "--lr", "fast"]),
                 ("run", 2, [self.tempo, "eval", "--run", absent, "--key", self.key]),
                 ("evidence", 4, self.verify(self.other_policy)),
                 ("service", 4, self.client("status", policy=self.other_policy)),
                 ("worker", 2, [self.worker, "--listen", "http://x"]),
                 ("audit", 2, [self.audit, "report", "--out", absent, absent]),
                 ("bench", 2, [self.bench, "compare", absent, absent])]
        return [case for case in cases if case[2][0]]

    def verify(self, policy):
        return [self.tempo, "verify-evidence", "--evidence", self.base / "evidence.json", "--policy", policy]

    def train(self, out, *more):
        return [self.tempo, "train", *SMALL, "--key", self.key, "--out", out, *more]

    def check_metrics(self, run, steps):
        """Every line is JSON, and every step has one."""
        lines = [json.loads(line) for line in (pathlib.Path(run) / "metrics.jsonl").read_text().splitlines()]
        self.assertEqual([line["step"] for line in lines if "loss" in line], list(range(1, steps + 1)))
