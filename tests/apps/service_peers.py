"""A job service, its clients and a worker as programs, for tests: what they are started with, and what is read of them."""
import array
import json
import os
import pathlib
import re
import signal
import socket
import struct
import subprocess
import tempfile
import threading
import unittest

from start_once import START_ONCE


def weights(path):
    """Every float32 tensor of a safetensors file, by name: its bytes, and its shape."""
    content = path.read_bytes()
    size = struct.unpack("<Q", content[:8])[0]
    header = json.loads(content[8:8 + size])
    found = {}
    for name, entry in header.items():
        if name != "__metadata__" and entry["dtype"] == "F32":
            begin, end = entry["data_offsets"]
            found[name] = content[8 + size + begin:8 + size + end], entry["shape"]
    return found


def relative_difference(got, expected):
    a, b = (array.array("f", b"".join(w[name][0] for name in sorted(w))) for w in (got, expected))
    return (sum((x - y) ** 2 for x, y in zip(a, b, strict=True)) / sum(y ** 2 for y in b)) ** 0.5


class Relay:
    """Passes TCP connections on and keeps what went by: the network between client and service."""

    def __init__(self, port):
        self.target, self.seen, self.lock, self.ends = port, bytearray(), threading.Lock(), []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                near, _ = self.listener.accept()
            except OSError:
                return
            try:
                far = socket.create_connection(("127.0.0.1", self.target))
            except OSError:
                near.close()
                continue
            self.ends += [near, far]
            for source, sink in ((near, far), (far, near)):
                threading.Thread(target=self.copy, args=(source, sink), daemon=True).start()

    def copy(self, source, sink):
        try:
            while data := source.recv(65536):
                with self.lock:
                    self.seen += data
                sink.sendall(data)
        except OSError:
            pass
        for end in (source, sink):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def close(self):
        for end in [self.listener, *self.ends]:
            end.close()


class Case(unittest.TestCase):
    """A folder, a service in it, and the commands of one client."""
    tempo = worker = None  # paths of the programs

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.path = pathlib.Path(folder.name)
        self.environment = {**os.environ, **START_ONCE, "HOME": str(self.path), "XDG_CONFIG_HOME": str(self.path / "config")}
        self.service = None
        self.key = self.path / "data.key"
        self.run_program(self.tempo, "keygen", "--out", self.key)

    def run_program(self, *command, code=0, timeout=240):
        done = subprocess.run([*map(str, command)], capture_output=True, text=True, env=self.environment, timeout=timeout,
                              check=False)
        service = f"; the service: {self.service.poll()}, {(self.path / 'service.err').read_text()}" if self.service else ""
        self.assertEqual(done.returncode, code, f"{command}\n{done.stdout}\n{done.stderr}{service}")
        return done

    def start_service(self, *more):
        command = [self.tempo, "serve", "--listen", "127.0.0.1:0", "--state", self.path / "state", "--tee",
                   "insecure-simulated", "--evidence", self.path / "evidence.json", "--tee-threads", "1", "--log",
                   self.path / "service.log", *more]
        with open(self.path / "service.err", "a") as errors:
            self.service = subprocess.Popen([*map(str, command)], stdout=subprocess.PIPE, stderr=errors, text=True,
                                            env=self.environment)
        self.addCleanup(self.service.stdout.close)
        self.addCleanup(self.service.wait)
        self.addCleanup(self.service.kill)
        line = self.service.stdout.readline()
        found = re.match(r"serving at 127\.0\.0\.1:(\d+), evidence: insecure-simulated", line)
        self.assertTrue(found, f"tempo serve says {line!r}")
        self.port = int(found[1])
        if not (self.path / "policy.json").exists():
            self.run_program(self.tempo, "policy", "init", "--evidence", self.path / "evidence.json", "--out",
                             self.path / "policy.json")

    def stop_service(self, with_signal=signal.SIGTERM):
        self.service.send_signal(with_signal)
        return self.service.wait(timeout=60)

    def start_worker(self, uri, *more):
        worker = subprocess.Popen([self.worker, "--listen", uri, "--threads", "1", *more], stdout=subprocess.PIPE,
                                  stderr=subprocess.STDOUT, text=True, env=self.environment)
        self.addCleanup(worker.stdout.close)
        self.addCleanup(worker.wait)
        self.addCleanup(worker.kill)
        self.assertIn(f"listening on {uri}", worker.stdout.readline())
        return worker

    def client(self, command, *more, code=0, port=None, policy="policy.json", timeout=240):
        return self.run_program(self.tempo, command, "--server", f"127.0.0.1:{port or self.port}", "--policy",
                                self.path / policy, *more, code=code, timeout=timeout)

    def submit(self, *training, data=None, port=None, policy="policy.json"):
        """@returns the id of the job"""
        source = ["--data", data] if data else []
        done = self.client("submit", "--key", self.key, *source, "--", *training, port=port, policy=policy)
        return re.search(r"^job ([0-9a-f]{32})$", done.stdout, re.M)[1]

    def status(self, job):
        """@returns phase and step"""
        line = self.client("status", job).stdout
        found = re.match(rf"{job} ([a-z-]+)(?:.*step (\d+))?", line)
        self.assertTrue(found, line)
        return found[1], int(found[2] or 0)

    def wait_for(self, job, phase, seconds=200):
        """Until the job is over. One command that waits, not many that ask: each takes the job's processors for a second."""
        self.client("logs", job, "--follow", timeout=seconds)
        now, step = self.status(job)
        self.assertEqual(now, phase)
        return step

    def fetch(self, job, name, *more):
        self.client("fetch", job, "--key", self.key, "--out", self.path / name, *more)
        self.run_program(self.tempo, "export", "--run", self.path / name, "--key", self.key, "--out",
                         self.path / f"{name}.st")
        return weights(self.path / f"{name}.st")
