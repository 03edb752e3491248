#!/usr/bin/env python3
"""Writes docs/flags.md, every command of `tempo` with its flags, from what the program says of itself.

    tools/flags_page.py TEMPO > docs/flags.md
    tools/flags_page.py TEMPO --check docs/flags.md    says whether the page is up to date
"""
import sys

from command_table import commands_of

HEAD = """# Commands and flags

`tempo train` takes a TOML file with `--config`. Every flag of `tempo train` but `--config` and `--resume` is also a key of that file, by the
same name. A flag on the command line overrides the file.

Exit codes: 0 done, 1 failed, 2 bad usage or input, 3 a worker's result is wrong, 4 attestation refused.

This page is generated: `tools/flags_page.py`. `make check` compares it with the program.
"""


def cell(text):
    return text.replace("|", "\\|")


def page(tempo):
    out = [HEAD]
    for command in commands_of(tempo):
        meaning = command.meaning[0].lower() + command.meaning[1:]
        if command.name == "plan":
            meaning += ". It takes the flags of `tempo train`, and:"
        out.append(f"## tempo {command.name}: {meaning}\n")
        if command.flags:
            out.append("| flag | what it does | default |\n|---|---|---|")
            out += [f"| `{flag.name}` | {cell(flag.meaning)} | {f'`{flag.default}`' if flag.default else ''} |"
                    for flag in command.flags]
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
