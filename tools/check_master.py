"""What deploy/gramine and deploy/cvm must agree on with `tempo serve`, and the settings without which neither protects.

Used by check_deploy.py. The texts are passed in, so that broken ones can be tried: `broken_copies` has them.
"""
import pathlib
import re
import tomllib

TOP = pathlib.Path(__file__).resolve().parent.parent
MANIFEST = "deploy/gramine/tempo-serve.manifest.template"
IMAGE = "deploy/cvm/mkosi.conf"
UNIT = "deploy/cvm/mkosi.extra/etc/systemd/system/tempo-serve.service"
FIREWALL = "deploy/cvm/mkosi.extra/etc/nftables.conf"
SERVE = "apps/tempo/serve.cpp"
PROGRAM = "apps/common/program.cpp"
# Without one of these on the measured command line, the host or a console gets a say.
COMMAND_LINE = ("lockdown=confidentiality", "systemd.import_credentials=no", "systemd.gpt_auto=no", "systemd.swap=no",
                "rd.systemd.mask=emergency.service", "systemd.mask=emergency.service", "systemd.mask=debug-shell.service")


def read_texts():
    paths = (MANIFEST, IMAGE, UNIT, FIREWALL, SERVE, PROGRAM)
    return {path: (TOP / path).read_text() for path in paths if (TOP / path).exists()}


def parse_template(text):
    """The manifest without Jinja: its loops run once, and each expression is the word it is made of."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("{%")]
    return tomllib.loads(re.sub(r"{{\s*([\w.]+).*?}}", r"<\1>", "\n".join(lines)))


def keys_of(table):
    for key, value in table.items():
        yield key
        for inner in value if isinstance(value, list) else [value]:
            if isinstance(inner, dict):
                yield from keys_of(inner)


def flags_of(words):
    """--name to value, of both "--name value" and "--name=value"."""
    flags = {}
    for word, following in zip(words, [*words[1:], ""]):
        if word.startswith("--"):
            name, _, value = word.partition("=")
            flags[name] = value or following
    return flags


def check_sgx(manifest, text):
    sgx, loader = manifest["sgx"], manifest["loader"]
    for key, value in (("debug", False), ("remote_attestation", "dcap"), ("file_check_policy", "strict")):
        if sgx.get(key) != value or type(sgx.get(key)) is not type(value):
            yield f"sgx.{key} is {sgx.get(key)!r}, expected {value!r}"
    for key in keys_of(manifest):
        if key.startswith("insecure__") or key in ("argv_src_file", "env_src_file", "passthrough"):
            yield f"{key}: arguments, environment and keys must be those that are measured"
    if loader.get("argv", [])[:2] != ["tempo", "serve"]:
        yield "loader.argv does not begin with tempo serve: the host would choose what runs"
    if loader.get("log_level", "error") not in ("error", "none"):
        yield "loader.log_level: more than errors tells the host what happens inside"
    trusted = sgx.get("trusted_files", [])
    mounts = {mount["path"]: mount.get("uri") for mount in manifest["fs"]["mounts"]}
    for uri in (mounts.get(manifest["libos"]["entrypoint"]), "file:<gramine.runtimedir>/", "file:<library>"):
        if uri not in trusted:
            yield f"sgx.trusted_files: {uri} is missing"
    if not re.search(r"{% for library in ldd\(program\) %}", text):
        yield "sgx.trusted_files: the program's libraries are not listed with ldd(program)"
    if sgx.get("allowed_files") != [f"{mounts.get('/host')}/"]:
        yield f"sgx.allowed_files is {sgx.get('allowed_files')}, expected what is mounted at /host alone"
    size = re.fullmatch(r"(\d+)G", sgx.get("enclave_size", ""))
    if not size or int(size[1]).bit_count() != 1:
        yield "sgx.enclave_size: expected a power of two, in G"


def check_manifest(texts):
    manifest = parse_template(texts[MANIFEST])
    yield from check_sgx(manifest, texts[MANIFEST])
    flags = flags_of(manifest["loader"].get("argv", []))
    if flags.get("--tee") != "gramine":
        yield f"--tee is {flags.get('--tee')}, expected gramine"
    for flag in ("--state", "--workers", "--tls"):
        if not flags.get(flag, "").removeprefix("file:").startswith("/host/"):
            yield f"{flag}: {flags.get(flag)} is not below /host"
    environment = manifest["loader"]["env"]
    if environment.get("OMP_NUM_THREADS") != flags.get("--tee-threads"):
        yield "OMP_NUM_THREADS is not --tee-threads"
    for name in re.findall(r'set_default\("(\w+)"', texts[PROGRAM]):
        if name not in environment:
            yield f"loader.env.{name} is not set: tempo would start itself anew to set it"


def check_image(texts):
    line = re.search(r"^KernelCommandLine=\n((?: +.*\n)+)", texts[IMAGE], re.M)
    words = line[1].split() if line else []
    for word in COMMAND_LINE:
        if word not in words:
            yield f"{IMAGE}: {word} is not on the kernel's command line"
    packages = re.search(r"^Packages=\n((?: +.*\n)+)", texts[IMAGE], re.M)[1].split()
    for package in packages:
        if "ssh" in package or package in ("gdb", "systemd-coredump", "dropbear"):
            yield f"{IMAGE}: {package} is no part of the image"


def unit_command(texts):
    return re.search(r"^ExecStart=(.*)$", texts[UNIT].replace("\\\n", " "), re.M)[1].split()


def check_unit(texts):
    command = unit_command(texts)
    flags = flags_of(command)
    if command[1:2] != ["serve"]:
        yield "ExecStart does not run tempo serve"
    if flags.get("--tee") != "configfs-tsm":
        yield f"--tee is {flags.get('--tee')}, expected configfs-tsm"
    if any(word.startswith("$") for word in command) or "EnvironmentFile" in texts[UNIT]:
        yield "arguments come from a file of settings, expected those that are measured"
    for setting in ("LimitCORE=0", "CapabilityBoundingSet=", "NoNewPrivileges=yes", "ProtectSystem=strict"):
        if not re.search(f"^{re.escape(setting)}$", texts[UNIT], re.M):
            yield f"{setting} is missing"
    port = flags.get("--listen", "").rpartition(":")[2]
    if re.findall(r"tcp dport (.*) accept", texts[FIREWALL]) != [port]:
        yield f"nftables.conf lets in other ports than {port}"
    if not re.search(r"hook input .*policy drop;", texts[FIREWALL]):
        yield "nftables.conf does not drop what comes in by default"


def check_flags(texts):
    known = set(re.findall(r'"(--[a-z-]+)"', texts[SERVE]))
    for where, words in ((MANIFEST, parse_template(texts[MANIFEST])["loader"].get("argv", [])),
                         (UNIT, unit_command(texts))):
        for flag in sorted(set(flags_of(words)) - known):
            yield f"{where}: {flag}: tempo serve has no such flag"


def check(texts):
    """Everything that is wrong, a line each."""
    try:
        problems = [f"{MANIFEST}: {problem}" for problem in check_manifest(texts)]
        problems += check_image(texts)
        problems += [f"{UNIT}: {problem}" for problem in check_unit(texts)]
        return problems + (list(check_flags(texts)) if SERVE in texts else [])
    except (tomllib.TOMLDecodeError, KeyError, TypeError) as error:
        return [f"{MANIFEST}, {IMAGE} or {UNIT} cannot be read: {type(error).__name__}: {error}"]


# File, what is replaced, by what, and a word of the complaint that must follow.
BREAKS = (
    (MANIFEST, "debug = false", "debug = true", "sgx.debug"),
    (MANIFEST, "debug = false", 'debug = "false"', "sgx.debug"),
    (MANIFEST, "debug = false\n", "", "sgx.debug"),
    (MANIFEST, '"dcap"', '"none"', "remote_attestation"),
    (MANIFEST, '"strict"', '"allow_all_but_log"', "file_check_policy"),
    (MANIFEST, "loader.log_level", "loader.insecure__use_cmdline_argv = true\nloader.log_level", "insecure__"),
    (MANIFEST, "loader.log_level", 'loader.argv_src_file = "file:argv"\nloader.log_level', "argv_src_file"),
    (MANIFEST, 'OMP_WAIT_POLICY = "passive"', "OMP_WAIT_POLICY = { passthrough = true }", "passthrough"),
    (MANIFEST, 'OMP_WAIT_POLICY = "passive"\n', "", "OMP_WAIT_POLICY"),
    (MANIFEST, "loader.argv = [", "loader.args = [", "loader.argv"),
    (MANIFEST, '"--tee", "gramine"', '"--tee", "insecure-simulated"', "--tee"),
    (MANIFEST, "trusted_files = [", "files = [", "trusted_files"),
    (MANIFEST, '  "file:{{ program }}",\n', "", "trusted_files"),
    (MANIFEST, '  "file:{{ library }}",\n', "", "trusted_files"),
    (MANIFEST, '["file:/var/lib/tempo/"]', '["file:/"]', "allowed_files"),
    (MANIFEST, '"64G"', '"60G"', "enclave_size"),
    (MANIFEST, "[sgx]", "[sgx", "cannot be read"),
    (IMAGE, "lockdown=confidentiality", "lockdown=integrity", "lockdown"),
    (IMAGE, "systemd.import_credentials=no", "", "import_credentials"),
    (IMAGE, "    nftables\n", "    nftables\n    openssh-server\n", "ssh"),
    (UNIT, "--tee configfs-tsm", "--tee auto", "--tee"),
    (UNIT, "--tls /var/lib/tempo/tls", "$TEMPO_EXTRA", "settings"),
    (UNIT, "LimitCORE=0", "LimitCORE=infinity", "LimitCORE"),
    (FIREWALL, "tcp dport 7070", "tcp dport { 22, 7070 }", "ports"),
    (MANIFEST, '"--state"', '"--stat"', "no such flag"),
    (UNIT, "--state", "--stat", "no such flag"),
)


def broken_copies(texts):
    """Breaks that go unnoticed, or that change nothing any more: a check that cannot fail is none."""
    texts = {SERVE: '"--listen" "--tee" "--state" "--workers" "--tls" "--tee-threads" "--log"', **texts}
    for path, old, new, word in BREAKS:
        broken = {**texts, path: texts[path].replace(old, new, 1)}
        complaints = check(broken)
        if broken[path] == texts[path]:
            yield f'self-test: "{old}" is not in {path}'
        elif not any(word in complaint for complaint in complaints):
            yield f'self-test: {path} with "{new}" for "{old}" is not refused'
