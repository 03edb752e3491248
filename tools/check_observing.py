#!/usr/bin/env python3
"""Checks docs/observing.md against the code: every metric, event and operation is on the page, and the page
names no other metric. Exit code 1 and one line for each that is missing."""

import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs/observing.md"
PROGRAMS = ("src/train/telemetry.cpp", "src/worker/telemetry.cpp")


def named(pattern, files):
    return {name for file in files for name in re.findall(pattern, (ROOT / file).read_text())}


def operations():
    """What `operation_name` gives: src/base/contract.cpp lists the names in one function."""
    text = (ROOT / "src/base/contract.cpp").read_text()
    body = text[text.index("* operation_name("):]
    return set(re.findall(r'"([a-z_]+)"', body[: body.index("\n}\n")]))


def main():
    page = PAGE.read_text()
    on_page = set(re.findall(r"`([a-z_]+)`", page))
    series = named(r'"(tempo_[a-z_]+)"', PROGRAMS)
    events = named(r'(?:info|warning|error)\(\s*"([a-z_]+)"', PROGRAMS)
    wanted = {"series": series, "event": events, "operation": operations()}
    problems = [f"observing.md: {kind} `{name}` of the code is not on the page"
                for kind, names in wanted.items() for name in sorted(names - on_page)]
    problems += [f"observing.md: series `{name}` is not in the code"
                 for name in sorted(n for n in on_page if n.startswith("tempo_")) if name not in series]
    problems += [f"check_observing.py found no {kind} in the code" for kind, names in wanted.items() if not names]
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
