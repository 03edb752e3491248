#!/usr/bin/env python3
"""Writes the man pages tempo(1) and tempo-COMMAND(1), from what the program says of itself.

    tools/man_pages.py TEMPO FOLDER
"""
import pathlib
import subprocess
import sys

from command_table import commands_of

EXIT_CODES = [("0", "done"), ("1", "failed"), ("2", "bad usage or input"), ("3", "a worker's result is wrong"),
              ("4", "attestation refused")]


def escaped(text):
    """Text as roff takes it: no line may begin with a control character, and a hyphen is one."""
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return "\\&" + text if text[:1] in (".", "'") else text


def entry(term, text):
    return f".TP\n\\fB{escaped(term)}\\fR\n{escaped(text)}\n"


def page(name, version, meaning, synopsis, sections, see_also):
    text = f'.TH {escaped(name.upper())} 1 "" "tempo {version}" "Tempo"\n'
    text += f".SH NAME\n{escaped(name)} \\- {escaped(meaning)}\n"
    text += f".SH SYNOPSIS\n\\fB{escaped(synopsis)}\\fR\n"
    for title, body in sections:
        text += f".SH {title}\n{body}"
    text += ".SH EXIT STATUS\n" + "".join(entry(code, what) for code, what in EXIT_CODES)
    return text + ".SH SEE ALSO\n" + ", ".join(f"\\fB{escaped(other)}\\fR(1)" for other in see_also) + "\n"


def flag_entries(flags):
    return "".join(entry(flag.name, flag.meaning + (f" (default: {flag.default})" if flag.default else "") + ".")
                   for flag in flags)


def main(arguments):
    if len(arguments) != 2:
        print(__doc__, file=sys.stderr)
        sys.exit(2)
    tempo, folder = arguments[0], pathlib.Path(arguments[1])
    version = subprocess.run([tempo, "--version"], capture_output=True, text=True, check=True).stdout.strip()
    commands = list(commands_of(tempo))
    pages = {"tempo-" + command.name.replace(" ", "-"): command for command in commands}
    folder.mkdir(parents=True, exist_ok=True)
    listed = "".join(entry("tempo " + command.name, command.meaning + ".") for command in commands)
    (folder / "tempo.1").write_text(page("tempo", version, "train neural networks on machines that are not trusted",
                                         "tempo COMMAND [FLAGS]", [("COMMANDS", listed)], sorted(pages)))
    for name, command in pages.items():
        sections = [("DESCRIPTION", escaped(command.meaning + ".") + "\n")]
        if command.name == "plan":
            sections.append(("FLAGS", "The flags of \\fBtempo\\-train\\fR(1), and:\n" + flag_entries(command.flags)))
        elif command.flags:
            sections.append(("FLAGS", flag_entries(command.flags)))
        synopsis = f"tempo {command.name}" + (" [FLAGS]" if command.flags else "")
        (folder / f"{name}.1").write_text(page(name, version, command.meaning[0].lower() + command.meaning[1:], synopsis,
                                               sections, ["tempo"]))
    print(f"{len(pages) + 1} pages in {folder}")


if __name__ == "__main__":
    main(sys.argv[1:])
