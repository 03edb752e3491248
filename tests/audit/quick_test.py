#!/usr/bin/env python3
"""`tempo-audit run --quick` and `report` as a user runs them, and what they refuse."""
import json
import pathlib
import subprocess
import sys
import tempfile


def call(*arguments):
    return subprocess.run([sys.argv[1], *map(str, arguments)], capture_output=True, text=True, timeout=390)


def expect_refused(expected, *arguments):
    result = call(*arguments)
    assert result.returncode == 2, (arguments, result.returncode, result.stderr)
    assert result.stderr.count("\n") == 1 and expected in result.stderr, (arguments, result.stderr)


def main():
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        done = call("run", "--quick", "--out", folder / "audit")
        assert done.returncode == 0, done.stderr
        results = json.loads((folder / "audit" / "audit.json").read_text())
        settings = [s["name"] for s in results["settings"]]
        assert len(settings) == 4 and sum(s["is_default"] for s in results["settings"]) == 1, settings
        for setting in settings:
            seen = {f["attack"] for f in results["findings"] if f["setting"] == setting}
            assert seen == set(range(1, 29)) - {16}, (setting, seen)
        for finding in results["findings"]:
            assert 0 <= finding["score"] <= 1 and 0 <= finding["chance"] <= 1, finding
        plain = [f for f in results["findings"] if f["setting"].startswith("none") and f["attack"] == 2]
        assert any(f["start"] == "public" and f["score"] > 0.9 for f in plain), "attack 2 fails on open weights"
        assert results["tampering"] and results["information"]
        # A copy of a victim that hardly beats guessing would say nothing.
        assert results["victim"]["test_accuracy"] >= 0.4, results["victim"]
        assert results["surrogates"], results["victim"]

        page = (folder / "audit" / "audit.html").read_text()
        assert "Not measured: the victim is right about" not in page
        assert "<svg" in page and "http" not in page.replace("http-equiv", ""), "the page must not use the network"
        again = call("report", folder / "audit" / "audit.json", "--out", folder / "again")
        assert again.returncode == 0, again.stderr
        assert (folder / "again" / "audit.html").read_text() == page

        expect_refused("already holds an audit", "run", "--quick", "--out", folder / "audit")
        expect_refused("expected a name that", "run", "--quick", "--out", folder / "x", "--setting", "nonsense")
        expect_refused("expected NAME: key=value", "run", "--quick", "--out", folder / "x", "--add-setting", "nonsense")
        expect_refused("expected a flag of tempo train", "run", "--quick", "--out", folder / "x", "--add-setting", "a: b=1")
        expect_refused("expected a setting that this run audits", "run", "--quick", "--out", folder / "x",
                       "--steal", "nonsense")
        expect_refused("conv-tile", "run", "--quick", "--out", folder / "x", "--add-setting", "a: conv-tile=-1")
        expect_refused("missing.json", "report", folder / "missing.json", "--out", folder / "x")
        (folder / "bad.json").write_text("{}")
        expect_refused("bad.json", "report", folder / "bad.json", "--out", folder / "x")
        expect_refused("again, expected every setting once", "report", folder / "audit" / "audit.json",
                       folder / "audit" / "audit.json", "--out", folder / "x")
        expect_refused("expected one of run, report, settings, detect", "attack")
        assert not (folder / "x" / "audit.json").exists()
        listed = call("settings")
        assert listed.returncode == 0 and "(the default)" in listed.stdout, listed.stdout
    print("ok")


if __name__ == "__main__":
    main()
