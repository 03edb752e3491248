#!/usr/bin/env python3
"""Proves the trust boundary in the sources: which folder may include which, and which library may link which.

The table below is the architecture. The worker is untrusted: it may see the shared contract and nothing else, so that
no key, plain tensor or model can reach it by accident.
"""
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent

# Folder of src/ -> folders it may include. Public headers (tempo/) are listed by name where the list must be short.
MAY_INCLUDE = {
    "base": {"base", "tempo", "hwy"},
    "wire": {"wire", "tempo/worker.h", "tempo/error.h", "tempo/v1/worker.pb.h"},
    "observe": {"observe", "tempo/error.h", "wire/host_port.h", "wire/descriptor.h", "wire/acceptor.h", "wire/listen.h"},
    "page": {"base", "observe", "page", "wire/host_port.h", "tempo/error.h"},
    "obfuscation": {"base", "obfuscation", "tempo", "hwy"},  # Highway's headers go in quotes by its own convention
    "integrity": {"base", "integrity", "tempo", "hwy"},
    "seal": {"base", "seal", "tempo"},
    "worker": {"worker", "wire", "observe", "tempo/worker.h", "tempo/error.h"},
    "offload": {"base", "wire", "observe", "obfuscation", "integrity", "offload", "worker", "tempo"},
    "nn": {"base", "obfuscation", "offload", "nn", "tempo", "hwy"},
    "train": {"base", "observe", "page", "obfuscation", "integrity", "seal", "offload", "nn", "train", "tempo", "hwy"},
    "attest": {"base", "seal", "attest", "tempo"},
    "service": {"base", "wire", "observe", "page", "seal", "attest", "train", "service", "tempo"},
    "audit": {"base", "page", "obfuscation", "integrity", "offload", "nn", "train", "worker", "audit", "tempo"},
}
# The one file of offload/ that may touch the worker's code is the embedded transport, and the factory that names it.
WORKER_CODE_ONLY_IN = {"src/offload/transport/inprocess.cpp", "src/offload/worker_factory.cpp"}
# Roots of trust that are not the vendors' are for tests: these files pass them on, and nothing else in a program names them.
UNPINNED_ONLY_IN = {"src/attest/appraisal.cpp", "src/attest/appraise_with_roots.h", "src/attest/policy_from.cpp",
                    "src/service/client.cpp", "src/service/client.h"}
# Library that the worker is made of -> all it may link.
MAY_LINK = {
    "worker": {"tempo_contract", "tempo_wire", "tempo_shm", "tempo_observe"},
    "observe": {"tempo_wire", "fmt::fmt", "nlohmann_json::nlohmann_json", "PkgConfig::HTTPLIB", "PkgConfig::PROMETHEUS",
                "Threads::Threads"},
}

INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"', re.MULTILINE)
LINK = r"tempo_(?:torch_)?library\(\s*tempo_{}\b[^)]*?LINK\s+([^)]*)\)"


def folder_of(include: str, allowed: set) -> str:
    return include if include in allowed else include.split("/")[0]


def check_includes() -> list:
    errors = []
    for path in sorted((ROOT / "src").rglob("*")):
        if path.suffix not in {".h", ".cpp"}:
            continue
        name = path.relative_to(ROOT).as_posix()
        folder = path.relative_to(ROOT / "src").parts[0]
        allowed = MAY_INCLUDE.get(folder)
        if allowed is None:
            errors.append(f"{name}: folder src/{folder} is not in the table of tools/check_layering.py")
            continue
        for include in INCLUDE.findall(path.read_text()):
            if "/" not in include:
                errors.append(f'{name}: include "{include}" has no folder, expected a path from src/ or include/')
            elif folder_of(include, allowed) not in allowed:
                errors.append(f'{name}: includes "{include}", expected only {", ".join(sorted(allowed))}')
            elif folder == "offload" and include.startswith("worker/") and name not in WORKER_CODE_ONLY_IN:
                errors.append(f'{name}: includes "{include}": only the embedded transport may')
    return errors


def check_roots() -> list:
    files = (path for folder in ("include", "src", "apps", "bench") for path in sorted((ROOT / folder).rglob("*")))
    names = (path.relative_to(ROOT).as_posix() for path in files
             if path.suffix in {".h", ".cpp"} and re.search("unpinned|appraise_with_roots", path.read_text()))
    return [f"{name}: takes other roots than the vendors': only tests may" for name in names
            if name not in UNPINNED_ONLY_IN]


def check_links() -> list:
    errors = []
    for folder, allowed in MAY_LINK.items():
        name = f"src/{folder}/CMakeLists.txt"
        lists = re.findall(LINK.format(folder), (ROOT / name).read_text(), re.DOTALL)
        if not lists:
            errors.append(f"{name}: no tempo_{folder} library with a LINK list")
        for extra in sorted({library for links in lists for library in links.split()} - allowed):
            errors.append(f"{name}: tempo_{folder} links {extra}, expected only {', '.join(sorted(allowed))}")
    return errors


def main() -> int:
    errors = check_includes() + check_roots() + check_links()
    for error in errors:
        print(f"layering: {error}", file=sys.stderr)
    if not errors:
        print("layering: ok")
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(main())
