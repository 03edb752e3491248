"""Every option that is a number, of every program: one decimal number in a range, or one clear line and exit code 2.
The options are those that --help gives a type INT, UINT or FLOAT, so a new one is found. Those of `tempo train` are
fields of one table, which tests/train/config_test.cpp goes through.

usage: numbers_test.py TEMPO TEMPO_WORKER [TEMPO_AUDIT] [TEMPO_BENCH]
"""
import os
import re
import subprocess
import sys
import unittest
from concurrent.futures import ThreadPoolExecutor

from start_once import START_ONCE

COMMANDS = {"tempo": [["plan"], ["keygen"], ["seal"], ["unseal"], ["serve"]], "tempo-worker": [[]],
            "tempo-audit": [["run"], ["detect"]], "tempo-bench": [["train"], ["plain"], ["width"]]}
BAD = ["-5", "nan", "1e999", "0x10", " 5", "5x"]
OPTION = re.compile(r"^\s+(?:-\w,)?(--[\w-]+) (?:INT|UINT|FLOAT)\b", re.MULTILINE)
PROGRAMS = [program for program in sys.argv[1:] if program]


def run(*words):
    return subprocess.run(words, capture_output=True, text=True, env={**os.environ, **START_ONCE}, timeout=120, check=False)


class Numbers(unittest.TestCase):
    def test_every_option_refuses_numbers_that_are_not_decimal_or_out_of_range(self):
        cases = [(program, command, option, bad)
                 for program in PROGRAMS for command in COMMANDS[os.path.basename(program)]
                 for option in OPTION.findall(run(program, *command, "--help").stdout) for bad in BAD]
        self.assertTrue(cases)
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            answers = pool.map(lambda case: run(case[0], *case[1], f"{case[2]}={case[3]}"), cases)
            for (program, command, option, bad), done in zip(cases, answers):
                with self.subTest(program=os.path.basename(program), command=command, option=option, bad=bad):
                    self.assertEqual(done.returncode, 2, done.stderr)
                    self.assertEqual(done.stderr.count("\n"), 1, done.stderr)
                    self.assertIn(option, done.stderr)
                    self.assertIn(f'got "{bad}", expected', done.stderr)

    def test_help_lists_the_options_that_this_test_tries(self):
        self.assertLessEqual({"--worker-gflops", "--tee-gflops", "--link-gbytes"},
                             set(OPTION.findall(run(PROGRAMS[0], "plan", "--help").stdout)))


if __name__ == "__main__":
    sys.argv[1:] = []
    unittest.main(verbosity=1)
