"""The job service is killed at random moments while it trains; the client releases its key again each time. The job must end
with the weights of an unbroken run.

usage: service_kill_test.py PATH_TO_TEMPO
TEMPO_SERVICE_KILLS: how often, 20 if unset.
"""
import json
import os
import pathlib
import random
import signal
import sys
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from service_peers import Case, relative_difference  # noqa: E402

Case.tempo = sys.argv[1]
KILLS = int(os.environ.get("TEMPO_SERVICE_KILLS", "20"))
SEED = 20260
TRAINING = ["--model", "resnet20", "--image-size", "16", "--train-size", "320", "--test-size", "16", "--batch-size", "16",
            "--checkpoint-interval", "2", "--seed", "5", "--schedule", "constant", "--offload", "all"]


class Killed(Case):
    def is_over(self, job):
        """As its log says: asking would take so long that the service gets too far."""
        return any(f'"job_ended","job":"{job}","phase":"done"' in line
                   for line in (self.path / "service.log").read_text().splitlines())

    def kill_and_resume(self, job, kills):
        rng = random.Random(SEED)
        for done in range(kills):
            time.sleep(rng.random() * 0.8)
            if self.is_over(job):
                return done
            self.stop_service(signal.SIGKILL)
            self.start_service(*self.service_flags)
            self.client("submit", "--key", self.key, "--resume", job)
        return kills

    def compare(self, kills, steps, *more):
        training = [*TRAINING, "--steps", str(steps), *more]
        self.start_service(*self.service_flags)
        calm = self.submit(*training)
        self.wait_for(calm, "done", 600)
        expected = self.fetch(calm, "calm")
        torn = self.submit(*training)
        killed = self.kill_and_resume(torn, kills)
        self.assertEqual(self.wait_for(torn, "done", 600), steps)
        print(f"service killed {killed} times, seed {SEED}", file=sys.stderr)
        self.assertGreaterEqual(killed, kills, "the job ended before all kills")
        logged = [json.loads(line) for line in self.client("logs", torn).stdout.splitlines()]
        self.assertEqual([line["step"] for line in logged if "loss" in line], list(range(1, steps + 1)))
        return self.fetch(torn, "torn"), expected

    def test_a_killed_service_reaches_the_same_bits_if_nothing_is_blinded(self):
        """With --workers local nothing is under keys: every bit must be that of the unbroken run."""
        self.service_flags = ["--workers", "local"]
        got, expected = self.compare(KILLS, 50 * KILLS, "--lr", "0.01")
        self.assertEqual(sorted(got), sorted(expected))
        for name, value in expected.items():
            self.assertEqual(got[name], value, name)

    def test_a_killed_service_reaches_the_same_weights_within_rounding_if_products_are_blinded(self):
        """Every life has keys of its own, under which products round otherwise: as far apart as two calm runs may be."""
        self.service_flags = ["--workers", "inprocess:"]
        got, expected = self.compare(max(1, KILLS // 5), 10 * KILLS, "--lr", "0.000003")
        self.assertLess(relative_difference(got, expected), 1e-5)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1] + sys.argv[2:], verbosity=2)
