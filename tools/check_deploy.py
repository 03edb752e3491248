#!/usr/bin/env python3
"""What the files of deploy/ must agree on with each other and with the program. Cheap, and offline.

Parses every manifest (a key given twice is refused), and checks what no schema says: selectors, names, ports and
namespaces that must match; kustomization.yaml naming every file; flags that tempo-worker has. Fields and their types are
deploy/validate.sh's.
"""
import pathlib
import re
import sys

try:
    import yaml
except ImportError:
    print("deploy: skipped: no PyYAML")
    sys.exit(0)

TOP = pathlib.Path(__file__).resolve().parent.parent
MANIFESTS = TOP / "deploy/kubernetes"
WORKER = TOP / "apps/tempo-worker"
problems = []


class StrictLoader(yaml.SafeLoader):
    def construct_mapping(self, node, deep=False):
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for key in {k for k in keys if keys.count(k) > 1}:
            raise yaml.constructor.ConstructorError(None, None, f'key "{key}" is given twice', node.start_mark)
        return super().construct_mapping(node, deep)


def expect(holds, message):
    if not holds:
        problems.append(message)


def load():
    """The manifests by kind; there is one of each."""
    found = {}
    for path in sorted(MANIFESTS.glob("*.yaml")):
        try:
            documents = list(yaml.load_all(path.read_text(), StrictLoader))
        except yaml.YAMLError as error:
            problems.append(f"{path.name}: {error}")
            continue
        for document in documents:
            expect(document["kind"] not in found, f"{path.name}: a second {document['kind']}")
            found[document["kind"]] = document
    return found


def check_names(kinds):
    namespace = kinds["Namespace"]["metadata"]["name"]
    for kind in set(kinds) - {"Namespace", "Kustomization"}:
        expect(kinds[kind]["metadata"].get("namespace") == namespace, f"{kind}: namespace is not {namespace}")
    pods = kinds["StatefulSet"]["spec"]
    labels = pods["template"]["metadata"]["labels"]
    for who, selector in (("StatefulSet", pods["selector"]["matchLabels"]),
                          ("Service", kinds["Service"]["spec"]["selector"]),
                          ("PodDisruptionBudget", kinds["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"]),
                          ("NetworkPolicy", kinds["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"])):
        expect(selector.items() <= labels.items(), f"{who}: selects other pods than the StatefulSet's")
    expect(pods["serviceName"] == kinds["Service"]["metadata"]["name"], "StatefulSet: serviceName is not the Service's")
    secrets = [v["secret"]["secretName"] for v in pods["template"]["spec"]["volumes"] if "secret" in v]
    expect(secrets == [kinds["Secret"]["metadata"]["name"]], f"StatefulSet: mounts {secrets}, not the Secret")
    listed = set(kinds["Kustomization"]["resources"])
    present = {p.name for p in MANIFESTS.glob("*.yaml")} - {"kustomization.yaml", "secret.template.yaml"}
    expect(listed == present, f"kustomization.yaml: lists {sorted(listed)}, expected {sorted(present)}")


def check_ports(kinds):
    container = kinds["StatefulSet"]["spec"]["template"]["spec"]["containers"][0]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        port = container[probe].get("tcpSocket", container[probe].get("httpGet", {})).get("port")
        expect(port in ports, f"{probe}: no port {port}")
    for port in kinds["Service"]["spec"]["ports"]:
        expect(ports.get(port["targetPort"]) == port["port"], f"Service: port {port['port']} is not the container's")
    policy = kinds["NetworkPolicy"]["spec"]
    for rule in policy["ingress"]:
        for port in rule["ports"]:
            expect("endPort" in port or port["port"] in ports, f"NetworkPolicy: no port {port['port']}")
    for flag, name in (("--listen", "grpc"), ("--metrics", "metrics"), ("--collective", "collective")):
        value = next((a for a in container["args"] if a.startswith(flag + "=")), "")
        expect(value.endswith(f":{ports[name]}"), f"{flag}: \"{value}\" does not end in the port named {name}")


def check_flags(kinds):
    known = set(re.findall(r'"(--[a-z-]+)"', "".join(p.read_text() for p in sorted(WORKER.glob("*.cpp")))))
    unit = (TOP / "deploy/systemd/tempo-worker.service").read_text().replace("\\\n", " ")
    command = re.search(r"^ExecStart=(.*)$", unit, re.M).group(1)
    settings = (TOP / "deploy/systemd/worker.env.example").read_text()
    used = set(re.findall(r"(?<!\S)(--[a-z-]+)", command))
    used |= set(re.findall(r"(?<!\S)(--[a-z-]+)", " ".join(re.findall(r"TEMPO_WORKER_EXTRA=(.*)", settings))))
    used |= {a.split("=")[0] for a in kinds["StatefulSet"]["spec"]["template"]["spec"]["containers"][0]["args"]}
    for flag in sorted(used - known):
        problems.append(f"{flag}: tempo-worker has no such flag")
    for variable in sorted(set(re.findall(r"\$\{?(TEMPO_\w+)", command))):
        expect(re.search(rf"^{variable}=", settings, re.M), f"worker.env.example: {variable} is not set")


def check_service():
    """The job service: flags that `tempo serve` has, and what must never be otherwise in an enclave."""
    known = set(re.findall(r'"(--[a-z-]+)"', (TOP / "apps/tempo/serve.cpp").read_text()))
    manifest = (TOP / "deploy/gramine/tempo.manifest.template").read_text()
    manifest = "\n".join(line for line in manifest.splitlines() if not line.startswith("#"))
    arguments = re.search(r"loader\.argv = \[(.*?)\]", manifest, re.S)
    expect(arguments is not None, "tempo.manifest.template: loader.argv is not fixed")
    used = set(re.findall(r'"(--[a-z-]+)"', arguments.group(1))) if arguments else set()
    unit = (TOP / "deploy/cvm/mkosi.extra/etc/systemd/system/tempo.service").read_text().replace("\\\n", " ")
    command = re.search(r"^ExecStart=(.*)$", unit, re.M).group(1)
    used |= set(re.findall(r"(?<!\S)(--[a-z-]+)", command))
    for flag in sorted(used - known):
        problems.append(f"{flag}: tempo serve has no such flag")
    settings = (TOP / "deploy/cvm/mkosi.extra/etc/tempo/serve.env").read_text()
    for variable in sorted(set(re.findall(r"\$\{?(TEMPO_\w+)", command))):
        expect(re.search(rf"^{variable}=", settings, re.M), f"serve.env: {variable} is not set")
    for line in ("sgx.debug = false", 'sgx.remote_attestation = "dcap"'):
        expect(line in manifest.splitlines(), f"tempo.manifest.template: expected {line}")
    for key in ("use_cmdline_argv", "use_host_env", "passthrough", "file_check_policy", "insecure__"):
        expect(key not in manifest, f"tempo.manifest.template: {key} lets the host decide")
    for text in (manifest, command, settings):
        expect("insecure-simulated" not in text, "insecure-simulated is for tests only")


def main():
    kinds = load()
    check_service()
    if not problems:
        check_names(kinds)
        check_ports(kinds)
        check_flags(kinds)
    for problem in problems:
        print(f"deploy: {problem}")
    if problems:
        sys.exit(1)
    print(f"deploy: {len(kinds)} manifests agree")


if __name__ == "__main__":
    main()
