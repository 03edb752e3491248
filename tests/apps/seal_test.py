"""tempo seal and unseal as a user meets them: there and back, killed in the middle, refused, and trained from.

usage: seal_test.py PATH_TO_TEMPO
"""
import filecmp
import json
import os
import pathlib
import pty
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest

from start_once import START_ONCE

TEMPO = sys.argv[1]
HEADER, CHUNK = 48, 65577  # docs/formats/sealed-archive.md
SMALL = ["--model", "lenet", "--steps", "4", "--batch-size", "16", "--seed", "3", "--tee-threads", "1"]


class Sealing(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        cls.keys = [pathlib.Path(folder.name) / name for name in ("key", "other")]
        for key in cls.keys:
            subprocess.run([TEMPO, "keygen", "--out", key], check=True, stdout=subprocess.DEVNULL)

    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.path = pathlib.Path(self.folder.name)
        self.sealed, self.out = self.path / "x.sealed", self.path / "out"
        self.key, self.other_key = self.keys
        self.partial, self.source = self.path / "x.sealed.partial", self.path / "in"
        self.environment = {**os.environ, **START_ONCE, "HOME": str(self.path), "XDG_CONFIG_HOME": str(self.path / "config")}
        self.source.mkdir()

    def tearDown(self):
        self.folder.cleanup()

    def tempo(self, *arguments, code=0):
        done = subprocess.run([TEMPO, *map(str, arguments)], capture_output=True, text=True, env=self.environment,
                              timeout=240, check=False)
        self.assertEqual(done.returncode, code, done.stderr)
        return done

    def refused(self, *arguments, says):
        done = self.tempo(*arguments, code=2)
        self.assertEqual(done.stderr.count("\n"), 1, f"more than one line: {done.stderr}")
        self.assertIn(says, done.stderr)

    def seal(self):
        return self.tempo("seal", "--key", self.key, "--in", self.source, "--out", self.sealed)

    def unseal(self):
        return self.tempo("unseal", "--key", self.key, "--in", self.sealed, "--out", self.out)

    def assert_same_tree(self):
        def files(folder):
            return sorted(file.relative_to(folder) for file in folder.rglob("*"))
        self.assertEqual(files(self.source), files(self.out))
        names = [str(file) for file in files(self.source) if (self.source / file).is_file()]
        self.assertEqual(filecmp.cmpfiles(self.source, self.out, names, shallow=False)[0], names)

    def caught(self, arguments, file, size):
        """Runs tempo and stops it (SIGSTOP) once `file` has `size` bytes, before it is done. @returns the process, which is
        killed after the test at the latest. On a busy machine tempo may be faster than this test: then once more."""
        for _ in range(20):
            process = subprocess.Popen([TEMPO, *map(str, arguments)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                       env=self.environment)
            self.addCleanup(process.wait)
            self.addCleanup(process.kill)
            while process.poll() is None and not (file.exists() and file.stat().st_size >= size):
                time.sleep(0.0005)
            if process.returncode is None:
                process.send_signal(signal.SIGSTOP)
                os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)  # a moment later it stands still
            if process.poll() is None and not self.sealed_or_unsealed(arguments).exists():
                return process
            process.kill()
            process.wait()
            done = self.sealed_or_unsealed(arguments)
            if done.is_dir():
                shutil.rmtree(done)
            else:
                done.unlink(missing_ok=True)
        self.fail("it was done before it could be stopped, 20 times")

    @staticmethod
    def sealed_or_unsealed(arguments):
        return pathlib.Path(arguments[arguments.index("--out") + 1])

    def killed(self, arguments, file, size):
        """Runs tempo and kills it once `file` has `size` bytes."""
        process = self.caught(arguments, file, size)
        process.kill()
        self.assertEqual(process.wait(timeout=60), -signal.SIGKILL)

    def write_large(self):
        """120 MB and some small files; the large one is mostly holes, which are read as zeros."""
        (self.source / "sub/empty").mkdir(parents=True)
        with open(self.source / "m", "wb") as file:
            for place in range(0, 120_000_000, 10_000_000):
                file.seek(place)
                file.write(random.Random(place).randbytes(1000))
            file.truncate(120_000_000)
        (self.source / "a").write_bytes(b"first")
        (self.source / "sub/z").write_bytes(b"last" * 30_000)

    def test_a_sealed_tree_unseals_to_the_same_tree(self):
        (self.source / "sub/empty").mkdir(parents=True)
        (self.source / "a").write_bytes(random.Random(1).randbytes(200_000))
        (self.source / "sub/b").write_bytes(b"")
        done = self.seal()
        self.assertIn("sealed 2 files, 200000 bytes, into", done.stdout)
        self.assertEqual(done.stderr, "", "a bar where no terminal is")
        self.assertEqual((self.sealed.stat().st_size - HEADER) % CHUNK, 0)
        self.assertIn("unsealed 2 files", self.unseal().stdout)
        self.assert_same_tree()
        self.assertEqual(self.out.stat().st_mode & 0o777, 0o700)
        self.assertEqual((self.out / "a").stat().st_mode & 0o777, 0o600)
        self.refused("seal", "--key", self.key, "--in", self.source, "--out", self.sealed, says="exists already")
        self.refused("unseal", "--key", self.key, "--in", self.sealed, "--out", self.out, says="exists already")

    def test_sealing_continues_after_being_killed(self):
        self.write_large()
        arguments = ["seal", "--key", self.key, "--in", self.source, "--out", self.sealed]
        for size in (1, 20_000_000, 60_000_000):
            self.killed(arguments, self.partial, size)
            self.assertFalse(self.sealed.exists())
            self.assertTrue(self.partial.exists())
        done = self.seal()
        self.assertIn("went on after", done.stdout)
        self.assertFalse(self.partial.exists())
        self.unseal()
        self.assert_same_tree()

    def test_unsealing_continues_after_being_killed(self):
        self.write_large()
        self.seal()
        arguments = ["unseal", "--key", self.key, "--in", self.sealed, "--out", self.out]
        for size in (1, 40_000_000):
            self.killed(arguments, self.path / "out.partial/m", size)
            self.assertFalse(self.out.exists())
        self.assertIn("went on with", self.unseal().stdout)
        self.assert_same_tree()
        self.assertFalse((self.path / "out.partial").exists())

    def test_a_changed_source_is_sealed_anew(self):
        self.write_large()
        self.killed(["seal", "--key", self.key, "--in", self.source, "--out", self.sealed], self.partial, 20_000_000)
        (self.source / "a").write_bytes(b"FIRST")
        self.assertIn("the source has changed since", self.seal().stderr)
        self.unseal()
        self.assert_same_tree()

    def test_a_second_process_that_seals_the_same_file_is_refused(self):
        self.write_large()
        arguments = ["seal", "--key", self.key, "--in", self.source, "--out", self.sealed]
        process = self.caught(arguments, self.partial, 1)
        self.refused(*arguments, says="another process is writing it")
        process.send_signal(signal.SIGCONT)
        self.assertEqual(process.wait(timeout=120), 0)
        self.unseal()
        self.assert_same_tree()

    def test_altered_archives_other_keys_and_links_are_refused(self):
        (self.source / "a").write_bytes(random.Random(1).randbytes(4 * 65536))
        self.seal()
        whole = self.sealed.read_bytes()
        arguments = ["unseal", "--key", self.key, "--in", self.sealed, "--out", self.out]

        def refused(content, says):
            self.sealed.write_bytes(content)
            self.refused(*arguments, says=says)
            self.assertFalse(self.out.exists())
        third = HEADER + 2 * CHUNK
        refused(whole[:third + 100], "cut short: it ends in chunk 3 of 5")
        refused(whole + b"x", "1 bytes after chunk 5, the last")
        refused(whole[:third] + bytes([whole[third] ^ 1]) + whole[third + 1:], "chunk 3 of 5 was altered")
        refused(whole[:third] + whole[third + CHUNK:third + 2 * CHUNK] + whole[third:third + CHUNK] +
                whole[third + 2 * CHUNK:], "chunk 3 of 5 was altered")
        self.sealed.unlink()
        self.seal()
        other = self.sealed.read_bytes()
        refused(whole[:third] + other[third:third + CHUNK] + whole[third + CHUNK:], "chunk 3 of 5 was altered")
        refused(b"PK" + bytes(1000), "not a sealed archive")
        self.sealed.write_bytes(whole)
        self.refused("unseal", "--key", self.other_key, "--in", self.sealed, "--out", self.out, says="sealed under key")
        (self.source / "link").symlink_to("a")
        self.sealed.unlink()
        self.refused("seal", "--key", self.key, "--in", self.source, "--out", self.sealed, says="is a symbolic link")
        self.assertFalse(self.partial.exists())

    def test_a_terminal_shows_a_progress_bar(self):
        self.write_large()
        master, slave = pty.openpty()
        arguments = ["seal", "--key", self.key, "--in", self.source, "--out", self.sealed]
        with subprocess.Popen([TEMPO, *map(str, arguments)], stdout=subprocess.DEVNULL, stderr=slave,
                              env=self.environment) as process:
            os.close(slave)
            shown = b""
            try:
                while piece := os.read(master, 65536):
                    shown += piece
            except OSError:  # the other end is closed
                pass
            self.assertEqual(process.wait(timeout=120), 0)
        os.close(master)
        self.assertIn(b"100% [", shown)
        self.assertIn(b"120.1 MB of 120.1 MB", shown)

    def make_cifar(self, folder):
        generator = random.Random(5)
        for name, count in (("data_batch_1.bin", 40), ("data_batch_2.bin", 24), ("test_batch.bin", 12)):
            records = (bytes([generator.randrange(10)]) + generator.randbytes(3072) for _ in range(count))
            (folder / name).write_bytes(b"".join(records))

    def test_training_from_an_archive_equals_training_from_the_folder(self):
        self.make_cifar(self.source)
        data_key = self.other_key
        self.tempo("seal", "--key", data_key, "--in", self.source, "--out", self.sealed)
        sealed_data = ["--data", self.sealed, "--data-key", data_key]

        def losses(name, *data):
            self.tempo("train", *SMALL, "--key", self.key, "--out", self.path / name, *data)
            lines = (self.path / name / "metrics.jsonl").read_text().splitlines()
            return [json.loads(line)["loss"] for line in lines if '"loss"' in line]
        plain = losses("plain", "--data", self.source)
        self.assertEqual(len(plain), 4)
        self.assertEqual(losses("sealed", *sealed_data), plain)
        self.refused("train", *SMALL, "--out", self.path / "no", "--data", self.sealed, says="--data-key")
        self.refused("train", *SMALL, "--out", self.path / "no", "--data", self.sealed, "--data-key", self.key,
                     says="sealed under key")
        self.refused("train", *SMALL, "--out", self.path / "no", "--data", self.source, "--data-key", data_key,
                     says="expected a sealed archive")
        self.assertFalse((self.path / "no").exists())

        # What the owner does with the result: a copy of the run directory, elsewhere, and the keys.
        copy = self.path / "fetched"
        shutil.copytree(self.path / "sealed", copy)
        shutil.rmtree(self.path / "sealed")
        run = ["--run", copy, "--key", self.key]
        accuracy = self.tempo("eval", *run, "--data", self.source).stdout
        self.assertIn("12 images, accuracy", accuracy)
        self.assertEqual(self.tempo("eval", *run, *sealed_data).stdout, accuracy)
        self.assertEqual(self.tempo("eval", *run).stdout, accuracy)  # the names are in the sealed configuration
        predictions = self.tempo("predict", *run, "--images", self.source / "test_batch.bin").stdout
        self.assertEqual(len(predictions.splitlines()), 12)
        self.assertEqual(self.tempo("predict", *run, "--images", self.sealed, "--data-key", data_key).stdout,
                         predictions)
        self.tempo("export", *run, "--out", self.path / "w.safetensors")
        self.tempo("train", "--resume", copy, "--key", self.key, "--steps", 6)

    def test_no_file_of_a_run_holds_the_data_in_plain(self):
        self.make_cifar(self.source)
        marker = (self.source / "data_batch_1.bin").read_bytes()[1:65]
        data_key = self.other_key
        self.tempo("seal", "--key", data_key, "--in", self.source, "--out", self.sealed)
        shutil.rmtree(self.source)
        self.tempo("train", *SMALL, "--key", self.key, "--out", self.path / "run", "--data", self.sealed, "--data-key",
                   data_key)
        files = [file for file in self.path.rglob("*") if file.is_file()]
        self.assertGreater(len(files), 5)
        for file in files:
            self.assertNotIn(marker, file.read_bytes(), file)


if __name__ == "__main__":
    sys.argv[1:] = []
    unittest.main(verbosity=1)
