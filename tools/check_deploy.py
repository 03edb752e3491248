#!/usr/bin/env python3
"""What the files of deploy/ must agree on with each other and with the program. Cheap, and offline.

Parses every manifest (a key given twice is refused), and checks what no schema says: selectors, names, ports and
namespaces that must match; kustomization.yaml naming every file; flags that tempo-worker has. Fields and their types are
deploy/validate.sh's. What runs the master (deploy/gramine, deploy/cvm) is check_master.py's, which tries its own checks on
broken copies as well.
"""
import pathlib
import re
import sys

import check_master

try:
    import yaml
except ImportError:
    yaml = None

TOP = pathlib.Path(__file__).resolve().parent.parent
MANIFESTS = TOP / "deploy/kubernetes"
WORKER = TOP / "apps/tempo-worker"
problems = []


class StrictLoader(yaml.SafeLoader if yaml else object):
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


def check_workers():
    if yaml is None:
        return "manifests of workers skipped: no PyYAML"
    kinds = load()
    if not problems:
        check_names(kinds)
        check_ports(kinds)
        check_flags(kinds)
    return f"{len(kinds)} manifests agree"


def check_masters():
    texts = check_master.read_texts()
    problems.extend(check_master.check(texts))
    if not problems:
        problems.extend(check_master.broken_copies(texts))
    tried = f"what runs the master agrees, {len(check_master.BREAKS)} broken copies are refused"
    if check_master.SERVE not in texts:
        tried += f"; flags of tempo serve skipped: there is no {check_master.SERVE}"
    return tried


def main():
    done = [check_workers(), check_masters()]
    for problem in problems:
        print(f"deploy: {problem}")
    if problems:
        sys.exit(1)
    for line in done:
        print(f"deploy: {line}")


if __name__ == "__main__":
    main()
