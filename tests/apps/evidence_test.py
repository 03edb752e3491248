"""tempo verify-evidence and tempo policy init as a user meets them: exit codes, the result, one clear line.

usage: evidence_test.py PATH_TO_TEMPO
Real evidence is taken from the folder that TEMPO_ATTESTATION_VECTORS names; without it those tests are skipped.
"""
import base64
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

TEMPO = sys.argv[1]
VECTORS = pathlib.Path(os.environ.get("TEMPO_ATTESTATION_VECTORS", ""))
HAS_VECTORS = bool(os.environ.get("TEMPO_ATTESTATION_VECTORS"))
# Measurement 07..., report data 11...; then the public key and the signature, made once with a key that was thrown away.
REPORT = b"insecure-simulated-tee-1" + 32 * b"\x07" + 64 * b"\x11" + bytes.fromhex(
    "e27d136bd2fe1631ded62cecdf1f1ea0956121ec0fa077a7bbd4cb478c9ab22be37913743b2da125304b1ac1cbc051f9"
    "9694739fdd1155702bbac93bd47a7bebedd4f60407770a930f62a0a52f1866f487c30b9536b2222d5045ac1934f8eb0e")
SIMULATED = {"tee": "insecure-simulated", "certificates": [], "report": base64.b64encode(REPORT).decode()}
OTHER_POLICY = {"version": 1, "tdx": {"mrtd": ["00" * 48]}}


class Evidence(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.path = pathlib.Path(self.folder.name)
        self.evidence = self.write("evidence.json", SIMULATED)

    def tearDown(self):
        self.folder.cleanup()

    def write(self, name, value):
        path = self.path / name
        path.write_text(value if isinstance(value, str) else json.dumps(value))
        return path

    def tempo(self, *arguments, code=0, says=None):
        done = subprocess.run([TEMPO, *map(str, arguments)], capture_output=True, text=True, timeout=60, check=False)
        self.assertEqual(done.returncode, code, done.stdout + done.stderr)
        if code != 0:
            self.assertEqual(done.stderr.count("\n"), 1, f"more than one line: {done.stderr}")
        if says is not None:
            self.assertIn(says, done.stderr)
        return done

    def verify(self, *arguments, **expected):
        return self.tempo("verify-evidence", *arguments, **expected)

    def test_a_policy_made_from_evidence_accepts_that_evidence(self):
        policy = self.path / "policy.json"
        self.tempo("policy", "init", "--evidence", self.evidence, "--out", policy)
        self.assertEqual(json.loads(policy.read_text()),
                         {"version": 1, "insecure-simulated": {"measurements": ["07" * 32]}, "config_hashes": [], "allow_unprotected": False})
        self.tempo("policy", "init", "--evidence", self.evidence, "--out", policy, code=2, says="exists already")
        result = json.loads(self.verify("--evidence", self.evidence, "--policy", policy).stdout)
        self.assertEqual(result["eat_profile"], "tag:github.com,2023:veraison/ear")
        self.assertEqual(result["submods"]["insecure-simulated"]["tempo.claims"]["measurement"], "07" * 32)
        self.verify("--evidence", self.evidence, "--policy", policy, "--report-data", "11" * 64)
        self.verify("--evidence", self.evidence, "--policy", policy, "--report-data", "12" * 64, code=4,
                    says="report_data is not what was asked for")

    def test_refusals_print_the_result_and_one_line(self):
        policy = self.write("policy.json", OTHER_POLICY)
        done = self.verify("--evidence", self.evidence, "--policy", policy, code=4)
        self.assertEqual(done.stderr, "tempo: insecure-simulated: the policy does not name this TEE\n")
        result = json.loads(done.stdout)["submods"]["insecure-simulated"]
        self.assertEqual(result["ear.status"], "contraindicated")
        self.assertEqual(result["tempo.reason"], "insecure-simulated: the policy does not name this TEE")

    def test_evidence_needs_a_config_hash_that_the_policy_lists(self):
        policy = self.write("policy.json", {"version": 1, "insecure-simulated": {"measurements": ["07" * 32]},
                                            "config_hashes": ["aa" * 32]})
        self.verify("--evidence", self.evidence, "--policy", policy, code=4, says="none came with the evidence")
        self.verify("--evidence", self.evidence, "--policy", policy, "--config-hash", "ab" * 32, code=4, says="config hash")
        self.verify("--evidence", self.evidence, "--policy", policy, "--config-hash", "aa" * 32)

    def test_bad_options_and_files_are_refused(self):
        policy = self.write("policy.json", OTHER_POLICY)
        both = ["--evidence", self.evidence, "--policy", policy]
        self.verify("--policy", policy, code=2, says="--evidence is required")
        self.verify("--evidence", self.evidence, code=2, says="--policy is required")
        self.verify("--evidence", self.path / "absent", "--policy", policy, code=2, says="cannot be read")
        self.verify("--evidence", policy, "--policy", policy, code=2, says="tee: is missing")
        self.verify("--evidence", self.write("junk", "junk"), "--policy", policy, code=2, says="neither an evidence bundle")
        self.verify("--evidence", self.evidence, "--policy", self.evidence, code=2, says="version: is missing")
        self.verify("--evidence", self.evidence, "--policy", self.write("p", "{"), code=2, says="not JSON")
        self.verify(*both, "--now", "today", code=2, says="--now")
        self.verify(*both, "--report-data", "11", code=2, says="--report-data")
        self.verify(*both, "--collateral", self.write("c", "junk"), code=2, says="neither a certificate")
        self.tempo("policy", code=2, says="subcommand")
        self.tempo("policy", "init", code=2, says="--evidence is required")

    @unittest.skipUnless(HAS_VECTORS, "TEMPO_ATTESTATION_VECTORS is not set: NOT TESTED on real evidence")
    def test_real_evidence_is_accepted_by_its_own_policy_alone(self):
        for evidence, collateral, now in [
                ("snp/milan_v3_azure_aci.report.bin", "snp/milan_v3_azure_aci.vcek.pem", "2026-06-01"),
                ("tdx/v4_uptodate.quote.bin", "tdx/v4_uptodate.collateral.json", "2025-07-01"),
                ("sgx/v3_prod.quote.bin", "sgx/v3_prod.collateral.json", "2025-07-01")]:
            given = ["--evidence", VECTORS / evidence, "--collateral", VECTORS / collateral, "--now", now]
            policy = self.path / f"{evidence.replace('/', '_')}.policy"
            self.tempo("policy", "init", *given, "--out", policy)
            result = json.loads(self.verify(*given, "--policy", policy).stdout)
            self.assertEqual(list(result["submods"].values())[0]["ear.status"], "affirming")
            self.verify(*given, "--policy", self.write("other", {"version": 1, "insecure-simulated": {
                "measurements": ["07" * 32]}}), code=4, says="the policy does not name this TEE")
        # What was seen is remembered; a later list makes this one old.
        seen = self.path / "seen.json"
        self.verify(*given, "--policy", policy, "--seen", seen)
        self.verify(*given, "--policy", policy, "--seen", seen)
        items = json.loads(seen.read_text())
        items["seen"]["qe-identity QE"]["number"] += 1
        seen.write_text(json.dumps(items))
        self.verify(*given, "--policy", policy, "--seen", seen, code=4, says="qe-identity QE: number 17 is lower than 18")
        self.verify(*given[:-1], "2025-08-01", "--policy", policy, code=4, says="expired")
        # Debug evidence makes no policy, whatever else it is.
        self.tempo("policy", "init", "--evidence", VECTORS / "tdx/v4_DEBUG.quote.bin", "--now", "2025-07-01", code=4,
                   says="debuggable")


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1], verbosity=2)
