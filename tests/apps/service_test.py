"""The job service end to end, as a data owner meets it: seal, serve, submit, watch, fetch, eval. While a job runs, everything
that an outsider can get hold of is searched for what must not be there.

usage: service_test.py PATH_TO_TEMPO PATH_TO_TEMPO_WORKER
TEMPO_CIFAR10: a folder with CIFAR-10's binary files; without it the test makes files of the same layout.
"""
import array
import fcntl
import json
import os
import pathlib
import random
import shutil
import signal
import sys
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from service_peers import Case, Relay, weights  # noqa: E402

Case.tempo, Case.worker = sys.argv[1:3]
RECORD, PAGE = 3073, 4096
TRAIN, TEST = 96, 32
# At a rate of 0 the weights are at every moment what they were at the start: what to search for is known exactly.
TRAINING = ["--model", "resnet20", "--batch-size", "16", "--steps", "12", "--checkpoint-interval", "2", "--seed", "5",
            "--offload", "all", "--lr", "0", "--weight-decay", "0"]


def make_cifar(folder):
    """Few records in CIFAR-10's layout: real ones where they are, else random ones."""
    folder.mkdir()
    real = os.environ.get("TEMPO_CIFAR10")
    rng = random.Random(7)
    for name, count in (("data_batch_1.bin", TRAIN), ("test_batch.bin", TEST)):
        if real:
            content = (pathlib.Path(real) / name).read_bytes()[:RECORD * count]
        else:
            content = b"".join(bytes([rng.randrange(10)]) + rng.randbytes(RECORD - 1) for _ in range(count))
        (folder / name).write_bytes(content)
    print("service_test: images are", f"CIFAR-10's, from {real}" if real else "made up: TEMPO_CIFAR10 is not set",
          file=sys.stderr)


def resident_runs(pagemap, begin, end):
    """Where pages are in memory or swapped out: the rest has never been written to."""
    pagemap.seek(begin // PAGE * 8)
    pages = array.array("Q", pagemap.read((end - begin) // PAGE * 8))
    start = None
    for number, entry in enumerate([*pages, 0]):
        is_there = entry >> 62 != 0
        if is_there and start is None:
            start = number
        elif not is_there and start is not None:
            yield begin + start * PAGE, begin + number * PAGE
            start = None


def memory_of(pid):
    """All memory that a process can have written to, in pieces: not the pages of programs and libraries."""
    with open(f"/proc/{pid}/maps") as maps, open(f"/proc/{pid}/mem", "rb", buffering=0) as memory, \
            open(f"/proc/{pid}/pagemap", "rb", buffering=0) as pagemap:
        for line in maps:
            where, rights = line.split()[:2]
            is_file = "/usr/" in line or line.rstrip().endswith(("/tempo", "/tempo-worker"))
            if not rights.startswith("r") or "[v" in line or (is_file and "w" not in rights):
                continue
            for begin, end in resident_runs(pagemap, *(int(x, 16) for x in where.split("-"))):
                try:
                    memory.seek(begin)
                    content = bytearray()
                    while len(content) < end - begin and (piece := memory.read(end - begin - len(content))):
                        content += piece
                    yield content
                except OSError:
                    continue


def both_layouts(content, shape):
    """Nine weights of one filter of the middle, as they lie in a row channels first, and channels last."""
    outputs, inputs, height, width = shape
    filter_values, at = inputs * height * width, outputs // 2 * inputs * height * width
    values = [content[4 * i:4 * i + 4] for i in range(at, at + filter_values)]
    last = [values[c * height * width + position] for position in range(height * width) for c in range(inputs)]
    return [b"".join(values[:9]), b"".join(last[:9])]


class Markers:
    """What must not be found, by name: byte strings that do not come about by chance."""

    def __init__(self, cifar, key_file, plain_weights):
        train = (cifar / "data_batch_1.bin").read_bytes()
        images = [train[RECORD * i + 1 + 500:RECORD * i + 1 + 500 + 48] for i in range(TRAIN)]
        self.of_images = [marker for marker in images if len(set(marker)) > 8][:8]
        labels = bytes(train[RECORD * i] for i in range(TRAIN))
        self.of_labels = [labels[:48], labels[-48:]]
        line = key_file.read_text().strip()
        secret = bytes.fromhex(line.split()[-1])
        self.of_keys = [secret, secret[:16], secret.hex().encode(), line.encode()]
        self.of_weights = [marker for name, value in sorted(plain_weights.items())[:40]
                           if name.startswith("layer") and "conv" in name for marker in both_layouts(*value)]

    def found_in(self, content):
        """@param content bytes, or pieces of them"""
        pieces, found = [content] if isinstance(content, (bytes, bytearray)) else content, set()
        for piece in pieces:
            found |= {name for name, markers in vars(self).items()
                      if name not in found and any(marker in piece for marker in markers)}
        return found


class EndToEnd(Case):
    def setUp(self):
        super().setUp()
        self.cifar = self.path / "cifar"
        make_cifar(self.cifar)
        self.sealed = self.path / "cifar.sealed"
        self.run_program(self.tempo, "seal", "--in", self.cifar, "--out", self.sealed, "--key", self.key)
        uri = f"shm://tempo-service-{os.getpid()}-{abs(hash(self._testMethodName)) % 1_000_000}"
        self.worker_process = self.start_worker(uri)
        self.start_service("--workers", uri)

    def make_markers(self):
        self.run_program(self.tempo, "train", *TRAINING, "--workers", "local", "--data", self.cifar, "--out",
                         self.path / "plain", "--key", self.key, "--tee-threads", "1")
        self.run_program(self.tempo, "export", "--run", self.path / "plain", "--key", self.key, "--out", self.path / "plain.st")
        self.markers = Markers(self.cifar, self.key, weights(self.path / "plain.st"))

    def files_of_the_service(self):
        return b"".join(path.read_bytes() for path in [*(self.path / "state").rglob("*"), self.path / "service.log"]
                        if path.is_file())

    def search_memories(self):
        """The worker's and, where this user may, the service's, at one moment of the job."""
        processes = (self.service, self.worker_process)
        for process in processes:
            process.send_signal(signal.SIGSTOP)
        try:
            worker = self.markers.found_in(memory_of(self.worker_process.pid))
            try:
                return worker, self.markers.found_in(memory_of(self.service.pid))
            except PermissionError:
                print("service_test: THE SERVICE'S MEMORY CANNOT BE READ: not root", file=sys.stderr)
                return worker, None
        except PermissionError:
            self.skipTest("THE WORKER'S MEMORY CANNOT BE READ HERE: run this test as root")
        finally:
            for process in processes:
                process.send_signal(signal.SIGCONT)

    def watch(self, job):
        """@returns what was found in files, in the worker and in the service itself while the job ran."""
        files, worker, service, dumps = set(), set(), set(), 0
        while dumps < 2:
            phase, step = self.status(job)
            if phase == "running" and step >= 2:
                in_worker, in_service = self.search_memories()
                worker |= in_worker
                service = None if in_service is None else service | in_service
                dumps += 1
            elif phase == "done":
                break
            files |= self.markers.found_in(self.files_of_the_service())
            time.sleep(0.05)
        self.assertGreater(dumps, 0, "the job was over before anything was looked at")
        return files, worker, service

    def test_a_job_runs_from_sealing_to_evaluation_and_leaks_nothing(self):
        self.make_markers()
        relay = Relay(self.port)
        self.addCleanup(relay.close)
        job = self.submit(*TRAINING, data=self.sealed, port=relay.port)
        files, worker, service = self.watch(job)
        follow = self.client("logs", job, "--follow", port=relay.port).stdout
        self.assertEqual(self.wait_for(job, "done"), 12)
        (self.path / "model").mkdir()
        with open(self.path / "model/lock", "w", encoding="ascii") as lock:
            lock.write("process 1 elsewhere")
            lock.flush()
            fcntl.flock(lock, fcntl.LOCK_EX)
            refused = self.client("fetch", job, "--key", self.key, "--out", self.path / "model", code=2)
            self.assertIn('model: in use by "process 1 elsewhere"', refused.stderr)
            self.assertEqual([entry.name for entry in (self.path / "model").iterdir()], ["lock"])
        self.client("fetch", job, "--key", self.key, "--out", self.path / "model", port=relay.port)
        files |= self.markers.found_in(self.files_of_the_service())
        self.assertEqual(files, set(), "in the service's files")
        self.assertGreater(len(relay.seen), self.sealed.stat().st_size)
        self.assertEqual(self.markers.found_in(bytes(relay.seen)), set(), "on the network")
        self.assertEqual(worker, set(), "in the worker's memory")
        # The search can find: in the memory that a TEE is for, and in plain files. (Weights that were blinded and fetched back
        # are rounded otherwise, so for them another test looks into a worker without blinding.)
        if service is not None:
            self.assertLessEqual({"of_images", "of_labels", "of_keys"}, service, "not even in the service's own memory")
        self.assertIn("of_images", self.markers.found_in((self.cifar / "data_batch_1.bin").read_bytes()))
        self.assertIn("of_weights", self.markers.found_in((self.path / "plain.st").read_bytes()))

        self.assertEqual(follow.count('"loss"'), 12)
        names = {path.name for path in (self.path / "state").rglob("*") if path.is_file()}
        self.assertTrue(names <= {"lock", "job", "data.sealed", "state.sealed", "checkpoint-6.sealed"}, names)
        self.assertEqual(self.markers.found_in((self.path / "model/checkpoint.tempo").read_bytes()), set())
        done = self.run_program(self.tempo, "eval", "--run", self.path / "model", "--key", self.key, "--data", self.sealed,
                                "--data-key", self.key)
        self.assertIn(f"{TEST} images, accuracy", done.stdout)
        other = self.path / "other.key"
        self.run_program(self.tempo, "keygen", "--out", other)
        refused = self.client("fetch", job, "--key", other, "--out", self.path / "stolen", code=2)
        self.assertIn("sealed under key", refused.stderr)

    def test_the_search_finds_weights_in_a_worker_without_blinding(self):
        self.make_markers()
        (self.path / "open.json").write_text(
            json.dumps(json.loads((self.path / "policy.json").read_text()) | {"allow_unprotected": True}))
        job = self.submit(*TRAINING, "--protection", "none", "--allow-unprotected", data=self.sealed, policy="open.json")
        _, worker, _ = self.watch(job)
        self.assertIn("of_weights", worker)

    def test_an_unprotected_scheme_needs_permission_in_the_clients_policy(self):
        self.assertIs(json.loads((self.path / "policy.json").read_text())["allow_unprotected"], False)
        for scheme in ("none", "permuted"):
            refused = self.client("submit", "--key", self.key, "--data", self.sealed, "--", *TRAINING, "--protection", scheme,
                                  "--allow-unprotected", code=2)
            self.assertIn('"allow_unprotected": true in the policy', refused.stderr)

    def test_a_stranger_is_denied_every_request_about_a_job(self):
        job = self.submit(*TRAINING, data=self.sealed)
        stranger = ["--identity", self.path / "stranger.pem", "--client-state", self.path / "stranger"]
        for command in (["status", job], ["logs", job], ["cancel", job], ["cancel", job, "--remove"],
                        ["fetch", job, "--key", self.key, "--out", self.path / "x"]):
            refused = self.client(*command, *stranger, code=2)
            self.assertIn("permission denied: this client has no such job", refused.stderr)
        self.assertEqual(self.client("status", *stranger).stdout, "")
        self.assertIn("permission denied", (self.path / "service.log").read_text())

    def last_refusal(self, event):
        """@returns the reason that the client logged last."""
        line = json.loads((self.path / "config/tempo/refused.jsonl").read_text().splitlines()[-1])
        self.assertEqual((line["level"], line["event"]), ("warning", event))
        return line["reason"]

    def test_other_measurements_and_rolled_back_states_are_refused_with_exit_code_4(self):
        policy = (self.path / "policy.json").read_text()
        measured = next(word for word in policy.split('"') if len(word) == 64)
        flipped = ("0" if measured[0] != "0" else "1") + measured[1:]
        (self.path / "other.json").write_text(policy.replace(measured, flipped))
        refused = self.client("status", code=4, policy="other.json")
        self.assertIn("measurement", refused.stderr.splitlines()[-1])
        self.assertIn("measurement", self.last_refusal("service_refused"))
        self.client("status", "--now", "today", code=2)
        # A state that was put back: the client remembers.
        job = self.submit(*TRAINING, "--checkpoint-interval", "1", data=self.sealed)
        while self.status(job)[1] < 2:
            time.sleep(0.05)
        self.stop_service(signal.SIGKILL)
        folder = self.path / "state" / job
        shutil.copytree(folder, self.path / "old")
        uri = self.worker_process.args[2]
        self.start_service("--workers", uri)
        self.client("submit", "--key", self.key, "--resume", job, "--wait")
        self.stop_service()
        shutil.rmtree(folder)
        shutil.copytree(self.path / "old", folder)
        self.start_service("--workers", uri)
        refused = self.client("submit", "--key", self.key, "--resume", job, code=4)
        self.assertIn("somebody put an older one back", refused.stderr)
        self.assertIn("somebody put an older one back", (self.path / "service.log").read_text())
        refused = self.client("fetch", job, "--key", self.key, "--out", self.path / "stale", code=4)
        self.assertIn("it was rolled back", refused.stderr)
        self.assertIn("it was rolled back", self.last_refusal("state_refused"))


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1] + sys.argv[3:], verbosity=2)
