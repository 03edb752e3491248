"""The command line on a terminal: what `tempo` alone says, meant flags, completion, man pages and the progress line.

usage: terminal_test.py PATH_TO_TEMPO SOURCE_FOLDER
"""
import fcntl
import os
import pathlib
import pty
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import termios
import unittest

from start_once import START_ONCE

TEMPO, SOURCE = sys.argv[1], pathlib.Path(sys.argv[2])
COMMANDS = ["train", "plan", "eval", "predict", "export", "picture", "keygen", "policy", "seal", "unseal", "completion"]


def run(*arguments, **more):
    return subprocess.run([str(a) for a in arguments], capture_output=True, text=True, timeout=300, check=False, **more)


class Terminal(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.path = pathlib.Path(folder.name)

    def test_tempo_alone_shows_three_commands_that_exist(self):
        done = run(TEMPO)
        self.assertEqual(done.returncode, 0)
        shown = re.findall(r"^  tempo (\w+)", done.stdout, re.MULTILINE)
        self.assertEqual(len(shown), 3)
        for command in shown:
            self.assertEqual(run(TEMPO, command, "--help").returncode, 0, command)

    def test_a_mistyped_word_is_answered_with_the_one_that_was_meant(self):
        for words, meant in [(["trian"], "train"), (["train", "--epoch", "3"], "--epochs"),
                             (["train", "--batchsize=3"], "--batch-size"), (["policy", "init", "--evidense", "x"], "--evidence"),
                             (["keygen", "--ouT", "x"], "--out")]:
            done = run(TEMPO, *words)
            self.assertEqual(done.returncode, 2, words)
            self.assertEqual(done.stderr.count("\n"), 1, done.stderr)
            self.assertIn(f"did you mean {meant}?", done.stderr)
        self.assertNotIn("did you mean", run(TEMPO, "train", "--colour", "red").stderr)
        self.assertNotIn("did you mean", run(TEMPO, "paint").stderr)

    def complete(self, line):
        """What bash offers at the end of a line."""
        words = line.split(" ")
        script = f"""source <("{TEMPO}" completion bash)
            COMP_WORDS=({" ".join(f"'{w}'" for w in words)}); COMP_CWORD={len(words) - 1}
            compopt() {{ :; }}
            _tempo; printf '%s\\n' "${{COMPREPLY[@]}}" """
        done = run("bash", "-c", script)
        self.assertEqual(done.stderr, "")
        return done.stdout.split()

    def test_bash_completes_commands_flags_and_choices(self):
        offered = self.complete("tempo ")
        for command in COMMANDS:
            self.assertIn(command, offered)
        self.assertEqual(self.complete("tempo tra"), ["train"])
        self.assertEqual(self.complete("tempo policy "), ["init", "--help"])
        self.assertIn("--evidence", self.complete("tempo policy init --e"))
        self.assertEqual(self.complete("tempo keygen --o"), ["--out"])  # it stands in a group of flags
        self.assertEqual(self.complete("tempo train --weight-d"), ["--weight-decay"])
        self.assertEqual(self.complete("tempo train --lr 0.1 --protection "), ["none", "permuted", "rotated", "oblique"])
        self.assertEqual(self.complete("tempo train --config "), [])  # bash completes the path itself

    def test_the_function_for_zsh_is_well_formed_and_names_every_command(self):
        text = run(TEMPO, "completion", "zsh").stdout
        self.assertTrue(text.startswith("#compdef tempo\n"))
        for command in COMMANDS:
            self.assertIn(f"'{command}:", text)
        self.assertIn("--protection[", text)
        if shutil.which("zsh") is None:
            print("zsh is not installed: its own check of the syntax was left out", file=sys.stderr)
            return
        self.assertEqual(run("zsh", "-n", "/dev/stdin", input=text).stderr, "")

    def test_there_is_a_man_page_for_every_command_with_all_its_flags(self):
        done = run(sys.executable, SOURCE / "tools" / "man_pages.py", TEMPO, self.path)
        self.assertEqual(done.returncode, 0, done.stderr)
        overview = (self.path / "tempo.1").read_text()
        for line in (SOURCE / "docs" / "flags.md").read_text().splitlines():
            if line.startswith("## "):
                name = line[3:].split(":")[0]
                page = (self.path / (name.replace(" ", "-") + ".1")).read_text()
                self.assertIn(name.replace("-", "\\-"), overview)
            elif line.startswith("| `--"):
                flag = re.match(r"\| `(--[\w-]+)", line)[1]
                self.assertIn(flag.replace("-", "\\-"), page, name)

    def test_the_progress_line_fits_sixty_columns(self):
        key = self.path / "key"
        self.assertEqual(run(TEMPO, "keygen", "--out", key).returncode, 0)
        master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 60, 0, 0))
        process = subprocess.Popen(
            [TEMPO, "train", "--model", "mlp", "--train-size", "96", "--test-size", "16", "--batch-size", "16", "--epochs", "2",
             "--workers", "inprocess:", "--offload", "all", "--lr", "0.01", "--tee-threads", "1", "--out", str(self.path / "run"),
             "--key", str(key)],
            stdout=subprocess.DEVNULL, stderr=slave, env={**os.environ, **START_ONCE})
        os.close(slave)
        shown = b""
        try:
            while piece := os.read(master, 4096):
                shown += piece
        except OSError:  # the other side is closed
            pass
        os.close(master)
        self.assertEqual(process.wait(timeout=60), 0)
        drawn = [part for part in re.split(r"\r\x1b\[K|\r?\n", shown.decode()) if re.match(r" *\d+% ", part)]
        self.assertGreater(len(drawn), 1)
        for line in drawn:
            self.assertLess(len(line), 60, line)
        self.assertRegex(drawn[-1], r"^100% loss \S+ acc \S+% \S+/s 1 worker \S+ left$")


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
