"""What the programs do with the paths that users give them: devices, links and pipes, folders that another process has,
and names that the file system refuses.

usage: files_test.py PATH_TO_TEMPO PATH_TO_TEMPO_AUDIT
"""
import os
import pathlib
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
import unittest

from start_once import START_ONCE

TEMPO, AUDIT = sys.argv[1:3]
SMALL = ["--model", "lenet", "--data", "synthetic", "--train-size", "32", "--test-size", "16", "--batch-size", "16",
         "--workers", "local", "--tee-threads", "1"]
ENDLESS = ["--steps", "1000000"]
RECORD = bytes([3]) + bytes(3072)


class Programs(unittest.TestCase):
    """One key and one finished run for all tests of a class."""

    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        cls.home = pathlib.Path(folder.name)
        cls.key, cls.run_folder = cls.home / "key", cls.home / "run"
        cls.environment = {**os.environ, **START_ONCE, "HOME": folder.name, "XDG_CONFIG_HOME": folder.name + "/config"}
        for arguments in (["keygen", "--out", cls.key],
                          ["train", *SMALL, "--steps", 2, "--out", cls.run_folder, "--key", cls.key]):
            subprocess.run([TEMPO, *map(str, arguments)], check=True, env=cls.environment, capture_output=True)

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.path = pathlib.Path(folder.name)

    def program(self, *arguments, code=0, **how):
        done = subprocess.run([*map(str, arguments)], capture_output=True, env=self.environment, timeout=120, check=False,
                              cwd=self.path, **how)
        self.assertEqual(done.returncode, code, done.stderr)
        return done

    def tempo(self, *arguments, **how):
        return self.program(TEMPO, *arguments, **how)

    def refused(self, *arguments, says, program=TEMPO, **how):
        error = self.program(program, *arguments, code=2, **how).stderr.decode()
        self.assertEqual(error.count("\n"), 1, f"more than one line: {error}")
        self.assertIn(says, error)
        self.assertNotIn("filesystem error", error)

    def start(self, *arguments):
        process = subprocess.Popen([TEMPO, *map(str, arguments)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                   env=self.environment, cwd=self.path)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        return process

    def wait_for(self, is_so, process):
        deadline = time.monotonic() + 60
        while not is_so():
            self.assertIsNone(process.poll(), "the program ended")
            self.assertLess(time.monotonic(), deadline, "waited in vain")
            time.sleep(0.01)

    def export(self, out, **how):
        return self.tempo("export", "--run", self.run_folder, "--key", self.key, "--out", out, **how)


class Outputs(Programs):
    def setUp(self):
        super().setUp()
        self.export("plain")
        self.weights = (self.path / "plain").read_bytes()

    def mode(self, name):
        return (self.path / name).lstat().st_mode

    def test_a_device_stays_a_device(self):
        try:
            os.mknod(self.path / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
            (self.path / "null").write_bytes(b"x")
        except OSError as error:
            self.skipTest(f"no device can be made or used here: {error}")
        self.export("null")
        self.assertTrue(stat.S_ISCHR(self.mode("null")))
        self.program(AUDIT, "detect", "--trials", 0, "--honest", 1, "--out", "null")
        self.assertTrue(stat.S_ISCHR(self.mode("null")))

    def test_a_link_stays_a_link(self):
        (self.path / "target").write_bytes(b"old")
        for link, target in (("link", "target"), ("dangling", "new")):
            (self.path / link).symlink_to(target)
            self.export(link)
            self.assertTrue(stat.S_ISLNK(self.mode(link)))
            self.assertEqual((self.path / target).read_bytes(), self.weights)

    def test_a_file_keeps_the_mode_that_its_owner_gave_it(self):
        (self.path / "shared").write_bytes(b"old")
        (self.path / "shared").chmod(0o640)
        self.export("shared")
        self.assertEqual(stat.S_IMODE(self.mode("shared")), 0o640)
        self.assertEqual(stat.S_IMODE(self.mode("plain")), 0o600)

    def test_pipes_and_standard_output_are_written_to_and_not_replaced(self):
        os.mkfifo(self.path / "pipe")
        read = []
        reader = threading.Thread(target=lambda: read.append((self.path / "pipe").read_bytes()), daemon=True)
        reader.start()
        self.export("pipe")
        reader.join()
        self.assertEqual(read, [self.weights])
        self.assertTrue(stat.S_ISFIFO(self.mode("pipe")))
        # As /dev/stdout, but of this test: a program that replaces it does no harm.
        (self.path / "stdout").symlink_to("/proc/self/fd/1")
        self.assertEqual(self.export("stdout").stdout, self.weights)
        with open(self.path / "redirected", "wb") as file:
            file.write(b"before ")
            file.flush()
            done = subprocess.run([TEMPO, "export", "--run", self.run_folder, "--key", self.key, "--out", "stdout"],
                                  stdout=file, stderr=subprocess.PIPE, env=self.environment, check=True, timeout=60,
                                  cwd=self.path)
        self.assertEqual((self.path / "redirected").read_bytes(), b"before " + self.weights)
        self.assertIn(b"wrote stdout", done.stderr)
        self.assertTrue(stat.S_ISLNK(self.mode("stdout")))

    def test_keys_archives_and_certificates_never_replace_an_existing_name(self):
        os.mkfifo(self.path / "pipe")
        (self.path / "link").symlink_to("nowhere")
        for name in ("pipe", "link"):
            self.refused("keygen", "--out", name, says="exists already")
            self.refused("seal", "--key", self.key, "--in", self.run_folder, "--out", name, says="exists already")
        folder = self.path / "tls"
        folder.mkdir()
        (folder / "ca.key").symlink_to("../nowhere")
        self.refused("keygen", "--tls", folder, says="ca.key: exists already")
        self.assertFalse((self.path / "nowhere").exists())
        self.tempo("keygen", "--out", "key")
        self.assertEqual(stat.S_IMODE(self.mode("key")), 0o600)
        self.assertEqual({entry.name for entry in folder.iterdir()}, {"ca.key"})

    def test_a_folder_as_output_file_is_refused(self):
        (self.path / "folder").mkdir()
        self.refused("export", "--run", self.run_folder, "--key", self.key, "--out", "folder", says="folder: is a folder")

    def test_a_log_is_written_through_a_link_and_a_pipe_without_a_reader_is_refused(self):
        (self.path / "log").symlink_to("target")
        os.mkfifo(self.path / "pipe")
        self.tempo("train", *SMALL, "--steps", 1, "--out", "a", "--key", self.key, "--log", "log")
        self.assertIn(b'"event"', (self.path / "target").read_bytes())
        self.refused("train", *SMALL, "--steps", 1, "--out", "b", "--key", self.key, "--log", "pipe", says="nobody reads")


class Locks(Programs):
    def start_run(self, *arguments):
        process = self.start("train", *arguments, "--key", self.key)
        return process, lambda: self.wait_for((self.path / "r/checkpoint.tempo").exists, process)

    def refused_as_in_use(self, holder, *arguments, program=TEMPO):
        error = self.program(program, *arguments, code=2).stderr.decode()
        self.assertRegex(error.splitlines()[-1], rf'in use by "process {holder.pid} on \S+ since 20\S+Z"')

    def test_a_second_run_in_a_folder_is_refused(self):
        first, has_begun = self.start_run(*SMALL, *ENDLESS, "--out", "r")
        has_begun()
        config = (self.path / "r/config.toml").read_bytes()
        self.refused_as_in_use(first, "train", "--resume", "r", "--key", self.key, "--lr", 0.01)
        self.refused_as_in_use(first, "train", *SMALL, "--out", "r", "--key", self.key)
        self.refused_as_in_use(first, "train", "--resume", "r", "--out", "elsewhere", "--key", self.key)
        self.refused_as_in_use(first, "train", "--resume", self.run_folder, "--out", "r", "--steps", 4, "--key", self.key)
        self.assertEqual((self.path / "r/config.toml").read_bytes(), config)
        self.assertFalse((self.path / "elsewhere").exists())
        for reader in (["eval"], ["export", "--out", "w"]):
            self.tempo(*reader, "--run", "r", "--key", self.key)
        first.send_signal(signal.SIGINT)
        self.assertEqual(first.wait(60), 0)
        self.assertFalse((self.path / "r/lock").exists())

    def test_a_killed_run_leaves_no_lock_and_its_temporary_files_are_removed(self):
        first, has_begun = self.start_run(*SMALL, *ENDLESS, "--out", "r")
        has_begun()
        first.kill()
        first.wait()
        self.assertTrue((self.path / "r/lock").exists())
        for name in ("checkpoint.tempo", "config.toml"):
            (self.path / "r" / f"{name}.tmp.0123abcd").write_bytes(b"half")
        second, _ = self.start_run("--resume", "r")
        self.wait_for(lambda: not list((self.path / "r").glob("*.tmp.0123abcd")), second)

    def test_of_three_resumes_of_a_clean_stop_exactly_one_goes_on(self):
        # The keys of a clean stop may go on once: a loser must not read them before the winner notes that they did.
        self.tempo("train", *SMALL, "--steps", 2, "--out", "r", "--key", self.key)
        runs = [self.start("train", "--resume", "r", "--key", self.key, *ENDLESS) for _ in range(3)]
        deadline = time.monotonic() + 60
        while sum(run.poll() is None for run in runs) > 1 and time.monotonic() < deadline:
            time.sleep(0.01)
        self.assertEqual(sorted(str(run.poll()) for run in runs), ["2", "2", "None"])

    def test_of_three_new_runs_in_one_folder_exactly_one_goes_on(self):
        runs = [self.start("train", *SMALL, *ENDLESS, "--out", "r", "--key", self.key) for _ in range(3)]
        deadline = time.monotonic() + 60
        while sum(run.poll() is None for run in runs) > 1 and time.monotonic() < deadline:
            time.sleep(0.01)
        self.assertEqual(sorted(str(run.poll()) for run in runs), ["2", "2", "None"])

    def test_the_audit_and_the_service_refuse_a_folder_in_use(self):
        first, has_begun = self.start_run(*SMALL, *ENDLESS, "--out", "r")
        has_begun()
        self.refused_as_in_use(first, "run", "--quick", "--out", "r", program=AUDIT)
        if b"serve" in self.tempo("--help").stdout:
            self.refused_as_in_use(first, "serve", "--state", "r", "--tee", "insecure-simulated", "--listen", "localhost:0")


class Paths(Programs):
    def refused_where_made(self, bad, says):
        use = ["--run", self.run_folder, "--key", self.key]
        train = ["train", *SMALL, "--steps", 1, "--key", self.key]
        for arguments in ([*train, "--out", bad], ["export", *use, "--out", bad], ["keygen", "--out", bad],
                          ["keygen", "--tls", bad], ["seal", "--key", self.key, "--in", self.run_folder, "--out", bad],
                          [*train, "--out", "a", "--log", bad]):
            with self.subTest(arguments):
                self.refused(*arguments, says=says)
        for arguments in (["run", "--quick"], ["detect", "--trials", 0, "--honest", 1]):
            self.refused(*arguments, "--out", bad, says=says, program=AUDIT)
        self.assertEqual(list(self.path.iterdir()), [])

    def refused_where_read(self, bad, says):
        use = ["--run", self.run_folder, "--key", self.key]
        for arguments in (["train", *SMALL, "--steps", 1, "--key", self.key, "--out", "a", "--init", bad],
                          ["train", "--config", bad], ["train", "--resume", bad, "--key", self.key],
                          ["eval", "--run", bad, "--key", self.key], ["eval", *use[:2], "--key", bad],
                          ["eval", *use, "--data", bad], ["predict", *use, "--images", bad],
                          ["seal", "--key", self.key, "--in", bad, "--out", "b"],
                          ["unseal", "--key", self.key, "--in", bad, "--out", "b"],
                          ["verify-evidence", "--evidence", bad, "--policy", bad],
                          ["policy", "init", "--evidence", bad]):
            with self.subTest(arguments):
                self.refused(*arguments, says=says)
        self.refused("report", bad, "--out", "a", says=says, program=AUDIT)
        self.assertEqual(list(self.path.iterdir()), [])

    def test_a_name_that_is_too_long_is_refused(self):
        self.refused_where_made("a" * 300, "File name too long")
        self.refused_where_read("a" * 300, "a" * 200)

    def test_a_file_in_place_of_a_folder_is_refused(self):
        self.refused_where_made(self.key / "x", "Not a directory")

    def test_a_folder_that_takes_no_files_is_reported(self):
        # Not even root may make anything there, and it needs no mount.
        self.refused("export", "--run", self.run_folder, "--key", self.key, "--out", "/proc/self/x", says="/proc/self/x")
        self.refused("train", *SMALL, "--out", "/proc/self/x/y", "--key", self.key, says="/proc/self/x")
        self.refused("keygen", "--out", "/proc/self/x", says="/proc/self/x")

    def test_the_longest_allowed_name_is_accepted(self):
        self.export("a" * 255)
        self.assertEqual([entry.name for entry in self.path.iterdir()], ["a" * 255])


class Pipes(Programs):
    def piped(self, content, *arguments, **how):
        """`arguments` with a pipe in the place of each `...`."""
        return self.tempo(*("/dev/stdin" if word is ... else word for word in arguments), input=content, **how)

    def test_small_files_may_be_pipes(self):
        self.piped(b"steps = 1\n", "train", "--config", ..., *SMALL, "--out", "a", "--key", self.key)
        self.assertIn("steps = 1\n", (self.path / "a/config.toml").read_text())
        self.export("w")
        self.piped((self.path / "w").read_bytes(), "train", *SMALL, "--steps", 1, "--init", ..., "--out", "b", "--key",
                   self.key)
        lines = self.piped(RECORD * 2, "predict", "--run", self.run_folder, "--key", self.key, "--images", ...).stdout
        self.assertEqual(lines.count(b"\n"), 2)

    def test_a_named_pipe_is_opened_once(self):
        os.mkfifo(self.path / "pipe")
        writer = threading.Thread(target=lambda: (self.path / "pipe").write_bytes(RECORD * 100), daemon=True)  # does not fit in a pipe
        writer.start()
        lines = self.tempo("predict", "--run", self.run_folder, "--key", self.key, "--images", "pipe").stdout
        writer.join()
        self.assertEqual(lines.count(b"\n"), 100)

    def test_a_pipe_is_read_only_up_to_the_size_limit_of_a_file(self):
        done = self.piped(b"#" * (1 << 21), "train", "--config", ..., *SMALL, "--out", "a", code=2)
        self.assertIn(b"/dev/stdin: more than 1048576 bytes", done.stderr)

    def test_a_pipe_is_refused_at_once_where_a_file_is_needed(self):
        os.mkfifo(self.path / "pipe")
        data = self.path / "data"
        data.mkdir()
        os.mkfifo(data / "data_batch_1.bin")
        train = ["train", *SMALL, "--key", self.key, "--out", "a"]
        train_on = [word for word in train if word not in ("--data", "synthetic")]
        self.refused(*train_on, "--data", data, says="data_batch_1.bin: is a pipe or a device, expected a regular file")
        self.refused(*train_on, "--data", "pipe", says="pipe: ")
        self.refused("eval", "--run", self.run_folder, "--key", "pipe", says="pipe: not a regular file")
        self.refused("unseal", "--key", self.key, "--in", "pipe", "--out", "b", says="pipe: not a file")
        local = [word for word in train if word not in ("--workers", "local")]
        self.refused(*local, "--workers", "file:pipe", says="pipe: is a pipe or a device")

    def test_a_signal_ends_a_program_that_waits_at_a_pipe(self):
        os.mkfifo(self.path / "pipe")
        for arguments in (["train", "--config", "pipe"], ["train", *SMALL, "--init", "pipe", "--out", "a", "--key", self.key],
                          ["predict", "--run", self.run_folder, "--key", self.key, "--images", "pipe"]):
            with self.subTest(arguments):
                process = self.start(*arguments)
                self.wait_for(lambda: self.is_waiting_at_pipe(process), process)
                process.send_signal(signal.SIGTERM)
                self.assertIn(process.wait(20), (1, -signal.SIGTERM))

    def is_waiting_at_pipe(self, process):
        """It has the pipe open, and sleeps."""
        status = pathlib.Path(f"/proc/{process.pid}")
        opened = [os.readlink(entry) for entry in (status / "fd").iterdir() if entry.is_symlink()]
        return str(self.path / "pipe") in opened and (status / "stat").read_text().rsplit(")", 1)[1].split()[0] == "S"


if __name__ == "__main__":
    sys.argv[1:] = []
    unittest.main(verbosity=1)
