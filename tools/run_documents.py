#!/usr/bin/env python3
"""Runs what documents say can be run: every fenced block of README.md and docs/ that is marked `sh runnable`.

    tools/run_documents.py BUILD_DIR

The blocks of a page run in order in one temporary folder, with BUILD_DIR/apps first on PATH. What a block leaves
running in the background serves the later blocks of its page, and is ended after them. Prints a line for each block;
exits 1 if one fails or takes longer than two minutes.
"""
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import time

TIMEOUT_SECONDS = 120
BLOCK = re.compile(r"^```sh runnable\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def pages():
    return [pathlib.Path("README.md"), *sorted(pathlib.Path("docs").rglob("*.md"))]


def blocks(page):
    """(line of the fence, script) of every marked block."""
    text = page.read_text(encoding="utf-8")
    return [(text.count("\n", 0, match.start()) + 1, match[1]) for match in BLOCK.finditer(text)]


def end_group(group):
    """Ends all processes of a block's own process group."""
    for sign, seconds in ((signal.SIGTERM, 10), (signal.SIGKILL, 5)):
        try:
            os.killpg(group, sign)
            until = time.monotonic() + seconds
            while time.monotonic() < until:
                os.killpg(group, 0)
                time.sleep(0.05)
        except ProcessLookupError:
            return


def run_block(script, folder, environment, output):
    """The exit code, or None if time ran out; and the process group, of which some may still run."""
    process = subprocess.Popen(["bash", "-c", "set -euo pipefail\n" + script], cwd=folder, env=environment,
                               stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
                               start_new_session=True)
    try:
        return process.wait(TIMEOUT_SECONDS), process.pid
    except subprocess.TimeoutExpired:
        end_group(process.pid)
        process.wait()
        return None, process.pid


def run_page(page, environment):
    """True if every block ran. Stops at the first that does not: later ones build on it."""
    groups = []
    with tempfile.TemporaryDirectory(prefix="tempo-documents-") as folder:
        try:
            for line, script in blocks(page):
                with tempfile.TemporaryFile() as output:
                    code, group = run_block(script, folder, environment, output)
                    groups.append(group)
                    if code == 0:
                        print(f"{page}:{line}: ok", flush=True)
                        continue
                    output.seek(0)
                    why = f"exit code {code}" if code is not None else f"not done after {TIMEOUT_SECONDS} s"
                    print(f"{page}:{line}: failed, {why}\n{output.read().decode(errors='replace')}", flush=True)
                    return False
        finally:
            for group in groups:
                end_group(group)
    return True


def main():
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        sys.exit(2)
    apps = pathlib.Path(sys.argv[1]).resolve() / "apps"
    if not (apps / "tempo").exists():
        sys.exit(f"{apps}: no program tempo there; build first")
    environment = {**os.environ, "PATH": f"{apps}:{os.environ.get('PATH', '')}"}
    results = [run_page(page, environment) for page in pages()]
    sys.exit(not all(results))


if __name__ == "__main__":
    main()
