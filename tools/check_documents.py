#!/usr/bin/env python3
"""What documents name must exist: files that they link to or name, flags of the programs, targets of make.

    tools/check_documents.py BUILD
"""
import pathlib
import re
import subprocess
import sys

PROGRAMS = ("tempo", "tempo-worker", "tempo-audit", "tempo-bench")
#: Commands of programs whose help lists none.
COMMANDS = {"tempo-bench": [("train",), ("width",), ("plain",)]}
#: Flags of other programs that documents tell a reader to use.
FOREIGN = {"--preset", "--build", "--target", "--test-dir", "--output-on-failure", "--build-arg",
           "--date", "--manifest", "--output", "--from-file"}


def documents():
    listed = subprocess.run(["git", "ls-files", "*.md"], capture_output=True, text=True, check=True).stdout
    return [pathlib.Path(line) for line in listed.splitlines()]


def help_of(program, *command):
    return subprocess.run([program, *command, "--help"], capture_output=True, text=True).stdout


def flags_of(build):
    """Every flag of every program and its subcommands."""
    flags = set()
    for name in PROGRAMS:
        waiting = [(), *COMMANDS.get(name, [])]
        while waiting:
            command = waiting.pop()
            text = help_of(f"{build}/apps/{name}", *command)
            flags.update(re.findall(r"(--[a-z][a-z0-9-]*)", text))
            if "Subcommands:" in text and len(command) < 2:
                listed = text[text.index("Subcommands:"):]
                waiting += [(*command, sub) for sub in re.findall(r"^  ([a-z][a-z-]*)  ", listed, re.MULTILINE)]
    return flags


def flags_of_tools():
    """Flags of our scripts, as their sources spell them."""
    scripts = subprocess.run(["git", "ls-files", "tools", "tests", "deploy"], capture_output=True, text=True, check=True).stdout
    return set(re.findall(r"--[a-z][a-z0-9-]*", "\n".join(
        pathlib.Path(script).read_text(errors="replace") for script in scripts.splitlines()
        if script.endswith((".py", ".sh", ".service", ".yaml", ".yml", ".template")) or "Dockerfile" in script)))


def wrong_in(document, flags):
    text = document.read_text()
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text):
        if "://" not in target and not (document.parent / target).exists():
            yield f"links to {target}, which is not there"
    for path in re.findall(r"`((?:src|docs|tools|tests|apps|include|bench|deploy|proto|cmake)/[\w./-]*\w)`", text):
        is_pattern = "NN" in path
        if not is_pattern and not pathlib.Path(path).exists() and not any(pathlib.Path().glob(path + "*")):
            yield f"names {path}, which is not there"
    for flag in sorted(set(re.findall(r"(?<![\w-])(--[a-z][a-z0-9-]*)", text)) - flags - FOREIGN):
        yield f"names the flag {flag}, which no program has"
    makefile = pathlib.Path("Makefile").read_text()
    for target in re.findall(r"`make ([a-z_-]+)`", text):
        if not re.search(rf"^{target}:", makefile, re.MULTILINE):
            yield f"names make {target}, which is not there"


def main():
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        sys.exit(2)
    flags = flags_of(sys.argv[1]) | flags_of_tools()
    wrong = [f"{document}: {what}" for document in documents() for what in wrong_in(document, flags)]
    print("\n".join(wrong) if wrong else "documents: ok")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
