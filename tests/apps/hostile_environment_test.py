"""Every program where standard streams are closed, full or without a reader, folders are read-only, there is no home, numbers
are written with commas, paths are odd, shared memory is small and descriptors are few: the exit code says what happened, one
line tells it, nothing crashes, and no half of a file is left.

usage: hostile_environment_test.py TEMPO TEMPO_WORKER [TEMPO_AUDIT [TEMPO_BENCH]]   ("" leaves a program out)
"""
import json
import os
import pathlib
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time
import unittest

from hostile_programs import CLOSED, FULL, KILLED_BY_SIGPIPE, NO_READER, SMALL, Case, listing, start

IS_ROOT = os.geteuid() == 0
OTHER_USER = 65534
NOT_UTF8 = b"caf\xe9"
ODD_NAMES = [b"a b", b"new\nline", NOT_UTF8]


class Streams(Case):
    def test_output_that_cannot_be_written_is_an_error(self):
        def check(name, command):
            done = self.run_program(command, {1: FULL})
            self.assertEqual(done.code, 1, str(done))
            self.check_one_line(done, "standard output: cannot be written: No space left on device")
        self.check_all(self.outputs().items(), check)

    def test_a_server_that_cannot_print_its_address_does_not_start(self):
        for command in ([self.worker, "--listen", f"shm://full-{os.getpid()}"], self.serve("full")):
            done = self.run_program(command, {1: FULL})
            self.assertEqual(done.code, 1, str(done))
            self.check_one_line(done, "standard output: cannot be written")

    def test_an_error_that_cannot_be_printed_keeps_its_exit_code(self):
        def check(name, code, command):
            for streams in ({2: NO_READER}, {1: FULL, 2: FULL}, {0: CLOSED, 1: CLOSED, 2: CLOSED}):
                done = self.run_program(command, streams)
                self.assertEqual(done.code, code, str(done))
        self.check_all(self.refusals(), check)

    def test_training_goes_on_if_its_progress_cannot_be_printed(self):
        for number, state in enumerate((FULL, NO_READER, CLOSED)):
            run = self.path / f"run{number}"
            # Two epochs, a new key and given weights: progress, notes and warnings.
            environment = {**self.environment, "HOME": str(self.path / f"home{number}")}
            done = self.run_program([self.tempo, "train", *SMALL, "--workers", "inprocess:", "--seed", "1", "--out", run,
                                     "--steps", "6"], {2: state}, env=environment)
            self.assertEqual(done.code, 0, str(done))
            self.check_metrics(run, 6)

    def test_programs_without_a_reader_end_quietly(self):
        def check(name, command):
            done = self.run_program(command, {1: NO_READER})
            self.assertEqual(done.code, KILLED_BY_SIGPIPE, str(done))
            self.assertNotRegex(done.err, r"(?m)^tempo[a-z-]*: ", str(done))
        self.check_all(self.outputs().items(), check)

    def test_a_run_with_closed_streams_loses_no_line_of_its_files(self):
        def check(*closed):
            run = self.path / ("run" + "".join(map(str, closed)))
            streams = {number: CLOSED for number in closed}
            for command, steps in ((self.train(run, "--steps", "6"), 6),
                                   ([self.tempo, "train", "--resume", run, "--key", self.key, "--steps", "9"], 9)):
                done = self.run_program(command, streams)
                self.assertEqual(done.code, 0, str(done))
                self.check_metrics(run, steps)
            for file in run.rglob("*"):
                self.assertNotIn(b"samples/s", file.read_bytes() if file.is_file() else b"", file)
        self.check_all([(0,), (1,), (2,), (0, 1, 2)], check)

    def test_closed_streams_behave_like_dev_null(self):
        def check(name, command):
            done = self.run_program(command, {0: CLOSED, 1: CLOSED, 2: CLOSED})
            self.assertEqual(done.code, 0, str(done))
        self.check_all(self.outputs().items(), check)

    def test_no_file_of_a_server_gets_the_number_of_a_closed_stream(self):
        uri, log = f"shm://closed-{os.getpid()}", self.path / "log"
        for command in ([self.worker, "--listen", uri, "--threads", "1", "--log", str(log)],
                        self.serve("closed", "--log", str(log))):
            log.unlink(missing_ok=True)
            process = start(command, {0: CLOSED, 1: CLOSED, 2: CLOSED}, env=self.environment)
            self.addCleanup(process.kill)
            self.wait_for(log.exists)
            if command[0] == self.worker:
                done = self.run_program(self.train(self.path / "run", "--steps", "2", "--workers", uri, "--offload", "all"))
                self.assertEqual(done.code, 0, str(done))
            self.wait_for(log.read_text)
            self.assertEqual([os.readlink(f"/proc/{process.pid}/fd/{number}") for number in range(3)], ["/dev/null"] * 3)
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=30)
            self.assertEqual(process.returncode, 0)
            self.assertTrue(all(json.loads(line)["event"] for line in log.read_text().splitlines()))

    def wait_for(self, condition):
        deadline = time.monotonic() + 30
        while not condition() and time.monotonic() < deadline:
            time.sleep(0.02)
        self.assertTrue(condition())


class Places(Case):
    def writers(self, folder):
        """Commands that write into a folder: name, command."""
        out = os.path.join(os.fsencode(folder), b"out")
        cases = [("keygen", [self.tempo, "keygen", "--out", out]), ("certificates", [self.tempo, "keygen", "--tls", out]),
                 ("train", self.train(out, "--steps", "1")),
                 ("export", [self.tempo, "export", "--run", self.run_folder, "--key", self.key, "--out", out]),
                 ("seal", [self.tempo, "seal", "--key", self.key, "--in", self.images, "--out", out]),
                 ("policy", [self.tempo, "policy", "init", "--evidence", self.base / "evidence.json", "--out", out]),
                 ("fetch", self.client("fetch", self.job, "--key", self.key, "--out", out)),
                 ("audit", [self.audit, "detect", "--trials", "0", "--honest", "0", "--out", out])]
        return [case for case in cases if case[1][0]]

    def check_refused(self, done, codes=(1, 2), says=""):
        self.assertIn(done.code, codes, str(done))
        self.check_one_line(done, says)

    def test_read_only_folders_are_reported_and_left_unchanged(self):
        locked = self.path / "locked"
        locked.mkdir()
        locked.chmod(0o555)
        as_user = {"env": {**self.environment, "HOME": str(self.path / "home")}}
        no_key = {"env": {**self.environment, "HOME": str(locked)}}
        if IS_ROOT:
            prefix = ["setpriv", f"--reuid={OTHER_USER}", f"--regid={OTHER_USER}", "--clear-groups"]
            if not shutil.which("setpriv") or self.run_program([*prefix, self.tempo, "--version"]).code != 0:
                self.skipTest("another user cannot run the programs: READ-ONLY FOLDERS ARE NOT TESTED")
        else:
            prefix = []
        self.give_away()
        cases = [*self.writers(locked), ("own key", [self.tempo, "train", *SMALL, "--out", self.path / "new"]),
                 ("state", self.serve(locked / "state")), ("log", [self.worker, "--listen", "shm://x", "--log", locked / "log"])]

        def check(name, command):
            self.check_refused(self.run_program([*prefix, *command], **(no_key if name == "own key" else as_user)),
                               says=str(locked))
        self.check_all(cases, check)
        self.assertEqual(listing(locked), [])

    def give_away(self):
        """What this test's commands read belongs to the user who runs them."""
        for name in ("key", "run", "home"):
            source, copy = self.base / name, self.path / name
            (shutil.copytree if source.is_dir() else shutil.copy)(source, copy)
            for path in [copy, *copy.rglob("*")]:
                if IS_ROOT:
                    os.chown(path, OTHER_USER, OTHER_USER)
        self.key, self.run_folder = self.path / "key", self.path / "run"

    def test_without_a_home_the_key_must_be_named(self):
        environment = {name: value for name, value in self.environment.items() if name != "HOME"}
        for command in ([self.tempo, "train", *SMALL, "--out", self.path / "run"], [self.tempo, "eval", "--run", self.run_folder],
                        self.client("status")):
            self.check_refused(self.run_program(command, env=environment), (2,), "HOME")
        self.assertEqual(listing(self.path), [])
        for command in (self.train(self.path / "run", "--steps", "1"), [self.tempo, "plan", "--model", "mlp"],
                        [self.worker, "--version"], [self.tempo, "eval", "--run", self.run_folder, "--key", self.key]):
            done = self.run_program(command, env=environment)
            self.assertEqual(done.code, 0, str(done))

    def test_numbers_have_a_decimal_point_under_a_locale_with_commas(self):
        locale = "de_DE.UTF-8"
        environment = {**self.environment, "LC_ALL": locale, "LANG": locale, "LOCPATH": str(self.path)}
        made = shutil.which("localedef") and subprocess.run(
            ["localedef", "-i", "de_DE", "-f", "UTF-8", self.path / locale], capture_output=True, check=False).returncode == 0
        if not made:
            self.skipTest(f"there is no {locale}, nor what makes it: NUMBERS WITH COMMAS ARE NOT TESTED")
        run = self.path / "run"
        done = self.run_program(self.train(run, "--steps", "2", "--lr", "0.25"), env=environment)
        self.assertEqual(done.code, 0, str(done))
        self.check_metrics(run, 2)
        self.assertEqual(json.loads((run / "summary.json").read_text())["steps"], 2)
        self.assertIn("lr = 0.25\n", (run / "config.toml").read_text())
        for command, shows in (([self.tempo, "eval", "--run", run, "--key", self.key], r"accuracy \d+\.\d\d%"),
                               ([self.tempo, "plan", "--model", "mlp"], r"\d\.\d"), (self.client("logs", self.job), r"\d\.\d")):
            done = self.run_program(command, env=environment)
            self.assertRegex(done.out, shows, str(done))
            self.assertNotRegex(done.out, r"\d,\d+%", str(done))

    def test_odd_paths_are_kept_byte_for_byte(self):
        def check(name):
            folder = os.path.join(os.fsencode(self.path), name)
            os.mkdir(folder)
            for command in self.chain(folder):
                done = self.run_program(command)
                if name == NOT_UTF8 and b"--steps" in [os.fsencode(word) for word in command]:
                    self.assertEqual(done.code, 2, str(done))  # a run seals its paths as text
                    self.assertFalse(os.path.exists(os.path.join(folder, b"run")))
                    return
                self.assertEqual(done.code, 0, str(done))
            self.assertEqual(pathlib.Path(os.fsdecode(folder), "unsealed/images.bin").read_bytes(), self.images.read_bytes())
            self.check_metrics(os.fsdecode(folder) + "/run", 3)
            self.assertEqual([path for path, _ in listing(folder) if b"tmp" in path or b"partial" in path], [])
        self.check_all([(name,) for name in ODD_NAMES], check)

    def chain(self, folder):
        """From a key to a prediction, with every path in the folder."""
        def at(name):
            return os.path.join(folder, name)
        key, run = at(b"key"), at(b"run")
        yield [self.tempo, "keygen", "--out", key]
        yield [self.tempo, "seal", "--key", key, "--in", self.images, "--out", at(b"sealed")]
        yield [self.tempo, "unseal", "--key", key, "--in", at(b"sealed"), "--out", at(b"unsealed")]
        yield [self.tempo, "train", *SMALL, "--key", key, "--steps", "2", "--out", run]
        yield [self.tempo, "train", "--resume", run, "--key", key, "--steps", "3"]
        yield [self.tempo, "predict", "--run", run, "--key", key, "--images", at(b"unsealed/images.bin")]
        yield [self.tempo, "export", "--run", run, "--key", key, "--out", at(b"weights")]

    def test_an_error_about_an_odd_path_is_one_line(self):
        def check(name, tool, *arguments):
            if not tool:
                return
            absent = os.path.join(os.fsencode(self.path), name, b"absent")
            done = self.run_program([tool, *(absent if word == "PATH" else word for word in arguments)])
            self.check_refused(done, says="cannot be" if b"\n" in name and tool == self.tempo else "")
        self.check_all([(name, *command) for name in ODD_NAMES[1:] for command in (
            (self.tempo, "eval", "--key", self.key, "--run", "PATH"), (self.tempo, "export", "--key", self.key, "--run", "PATH",
                                                                        "--out", "PATH"),
            (self.tempo, "verify-evidence", "--policy", "PATH", "--evidence", "PATH"),
            (self.worker, "--listen", "shm://x", "--log", "PATH"), (self.audit, "report", "--out", "PATH", "PATH"),
            (self.bench, "compare", "PATH", "PATH"))], check)
        self.assertEqual(listing(self.path), [])


class Scarcity(Case):
    def test_programs_work_with_a_small_dev_shm(self):
        script = 'mount -t tmpfs -o size=1m tmpfs /dev/shm && exec "$@"'
        small = ["unshare", "-m", "/bin/sh", "-c", script, "sh"]
        if not shutil.which("unshare") or self.run_program([*small, "true"]).code != 0:
            self.skipTest("no file system can be mounted here: A SMALL /dev/shm IS NOT TESTED")
        uri = f"shm://small-{os.getpid()}"
        worker = start([*small, self.worker, "--listen", uri, "--threads", "1"], env=self.environment, text=True)
        self.addCleanup(worker.communicate)
        self.addCleanup(worker.kill)
        self.assertIn(uri, worker.stdout.readline())
        for workers in (uri, "local"):
            run = self.path / workers[:3]
            done = self.run_program([*small, *self.train(run, "--steps", "2", "--workers", workers, "--offload", "all")])
            self.assertEqual(done.code, 0, str(done))
            self.check_metrics(run, 2)

    def test_programs_with_few_descriptors_work_or_report_an_error(self):
        def check(limit, name, command):
            out = self.path / f"{name}-{limit}"
            command = [out if word == "OUT" else word for word in command]
            done = self.run_program(["/bin/sh", "-c", f'ulimit -n {limit}; exec "$@"', "sh", *command])
            if "error while loading shared libraries" in done.err:
                return  # the system's loader refuses, before any code of the program
            self.assertIn(done.code, (0, 1, 2), str(done))
            if done.code != 0:
                self.check_one_line(done)
                self.assertFalse(out.is_file(), str(done))
        commands = {"train": self.train("OUT", "--steps", "1"),
                    "export": [self.tempo, "export", "--run", self.run_folder, "--key", self.key, "--out", "OUT"],
                    "seal": [self.tempo, "seal", "--key", self.key, "--in", self.images, "--out", "OUT"],
                    "status": self.client("status"), "worker": [self.worker, "--listen", "http://x"],
                    "audit": [self.audit, "detect", "--trials", "0", "--honest", "0", "--out", "OUT"],
                    "bench": [self.bench, "compare", self.bench_result, self.bench_result]}
        self.check_all([(limit, name, command) for limit in (6, 12, 64) for name, command in commands.items()
                        if command[0]], check)

    def test_a_server_without_descriptors_waits_instead_of_spinning(self):
        name = f"few-{os.getpid()}"
        kinds = [([self.worker, "--listen", f"shm://{name}"], 0),
                 ([self.worker, "--listen", f"shm://{name}-m", "--metrics", "127.0.0.1:0"], 1),
                 ([self.worker, "--listen", "insecure://127.0.0.1:0"], 0), (self.serve("few"), 0)]
        self.check_all(kinds, self.check_starved)

    def check_starved(self, command, line):
        """@param line of its output that says where it is."""
        process = start(command, env=self.environment, text=True)
        self.addCleanup(process.communicate)
        self.addCleanup(process.kill)
        told = [process.stdout.readline() for _ in range(line + 1)][-1]
        time.sleep(0.5)  # lets its threads open what they will
        limit = resource.prlimit(process.pid, resource.RLIMIT_NOFILE)
        highest = max(map(int, os.listdir(f"/proc/{process.pid}/fd")))
        resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (highest + 1, limit[1]))
        peers = [self.connect(told) for _ in range(3)]
        before = self.cpu_seconds(process.pid)
        time.sleep(1)
        self.assertLess(self.cpu_seconds(process.pid) - before, 0.3, f"{command} spins")
        self.assertIsNone(process.poll(), f"{command} ended")
        for peer in peers:
            peer.close()
        resource.prlimit(process.pid, resource.RLIMIT_NOFILE, limit)
        self.check_answers(told)

    @staticmethod
    def cpu_seconds(pid):
        fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    @staticmethod
    def connect(told):
        if name := re.search(r"shm://([\w-]+)", told):
            peer = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            peer.settimeout(20)
            peer.connect(f"\0tempo-shm/{name[1]}")
            return peer
        return socket.create_connection(("127.0.0.1", int(re.search(r"127\.0\.0\.1:(\d+)", told)[1])), timeout=20)

    def check_answers(self, told):
        """With descriptors again, it serves."""
        with self.connect(told) as peer:
            if "metrics" in told:
                peer.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
            elif "serving" in told:
                peer.sendall(b"not TLS\r\n\r\n")
            try:
                self.assertTrue(peer.recv(64), told)
            except ConnectionResetError:
                pass  # an answer, too: what was sent is no TLS


if __name__ == "__main__":
    Case.tempo, Case.worker, Case.audit, Case.bench = (sys.argv[1:] + ["", ""])[:4]
    unittest.main(argv=sys.argv[:1], verbosity=2)
