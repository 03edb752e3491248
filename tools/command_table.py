"""What `tempo` says of its commands and flags, read from its own help. docs/flags.md and the man pages are made from it."""
import functools
import re
import subprocess
from typing import NamedTuple


class Flag(NamedTuple):
    name: str  # with its argument, if it takes one: "--config FILE"
    meaning: str
    default: str  # "" if there is none


class Command(NamedTuple):
    name: str  # "policy init"
    meaning: str
    flags: list


@functools.cache
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
        yield Flag(left, meaning, default)


def commands_of(tempo):
    """Every command, those below another one included. `plan` lists only the flags that `train` does not have."""
    overview = help_of(tempo)
    for command, meaning in entries(overview[overview.index("Subcommands:"):]):
        listed = help_of(tempo, command)
        inner = [(command, meaning)]
        if "Subcommands:" in listed:
            inner = [(f"{command} {name}", text) for name, text in entries(listed[listed.index("Subcommands:"):])]
        for name, text in inner:
            flags = list(flags_of(help_of(tempo, *name.split())))
            if name == "plan":
                known = {flag.name for flag in flags_of(help_of(tempo, "train"))}
                flags = [flag for flag in flags if flag.name not in known]
            yield Command(name, text, flags)
