#!/usr/bin/env python3
"""Writes docs/flags.md, every command of `tempo` with its flags, from what the program says of itself.

    tools/flags_page.py TEMPO > docs/flags.md
    tools/flags_page.py TEMPO --check docs/flags.md    says whether the page is up to date
"""
import re
import subprocess
import sys

HEAD = """# Commands and flags

`tempo train` takes a TOML file with `--config`. Every flag of `tempo train` but `--config` and `--resume` is also a key of that file, by the
same name. A flag on the command line overrides the file.

Exit codes: 0 done, 1 failed, 2 bad usage or input, 3 a worker's result is wrong, 4 attestation refused.

This page is generated: `tools/flags_page.py`. `make check` compares it with the program.
"""


def help_of(tempo, *command):
    return subprocess.run([tempo, *command, "--help"], capture_output=True, text=True, check=True).stdout


def entries(text):
    """Pairs of what stands left and right in a listing; what is left too long is followed by a line of its own."""
    found = []
    for line in text.splitlines():
        if entry := re.match(r" {2,4}(\S.*?)(?: {2,}(\S.*))?$", line):
            crowded = re.match(r"(.* (?:Needs|Excludes): --\S+) (.+)", entry[1])  # no room for two spaces
            found.append([crowded[1], crowded[2]] if crowded else [entry[1], entry[2] or ""])
        elif found and not found[-1][1] and (entry := re.match(r" {10,}(\S.*)$", line)):
            found[-1][1] = entry[1]
    return found


def flags_of(text):
    """Name, argument, meaning and default of every flag but --help."""
    for left, meaning in entries(text):
        if not left.startswith("-") or "--help" in left:
            continue
        left = left.replace("=true", "")
        is_required = " REQUIRED" in left
        left = re.split(r" (?:REQUIRED|Needs:|Excludes:)", left)[0]
        given = re.search(r"=(\S+)$", left) or re.search(r" \[([^\[\]]*)\]$", meaning)
        default = given[1] if given else ""
        left, meaning = re.sub(r"=\S+$", "", left), re.sub(r" \[[^\[\]]*\]$", "", meaning)
        if is_required:
            meaning += " (required)"
        yield left, meaning, default


def cell(text):
    return text.replace("|", "\\|")


def page(tempo):
    out = [HEAD]
    overview = help_of(tempo)
    for command, meaning in entries(overview[overview.index("Subcommands:"):]):
        listed = help_of(tempo, command)
        if "Subcommands:" in listed:
            commands = [(f"{command} {name}", text) for name, text in entries(listed[listed.index("Subcommands:"):])]
        else:
            commands = [(command, meaning)]
        for name, text in commands:
            out.append(f"## tempo {name}\n\n{text}.\n")
            flags = list(flags_of(help_of(tempo, *name.split())))
            if name == "plan":
                out.append("It takes the flags of `tempo train`, and:\n")
                known = {flag for flag, _, _ in flags_of(help_of(tempo, "train"))}
                flags = [flag for flag in flags if flag[0] not in known]
            if flags:
                out.append("| flag | what it does | default |\n|---|---|---|")
                out += [f"| `{flag}` | {cell(meaning)} | {f'`{default}`' if default else ''} |" for flag, meaning, default in flags]
                out.append("")
    return "\n".join(out).rstrip() + "\n"


def main(arguments):
    if len(arguments) not in (1, 3) or len(arguments) == 3 and arguments[1] != "--check":
        print(__doc__, file=sys.stderr)
        sys.exit(2)
    text = page(arguments[0])
    if len(arguments) == 1:
        print(text, end="")
    elif open(arguments[2]).read() != text:
        sys.exit(f"{arguments[2]}: not what the program says; write it anew: tools/flags_page.py {arguments[0]} > {arguments[2]}")


if __name__ == "__main__":
    main(sys.argv[1:])
