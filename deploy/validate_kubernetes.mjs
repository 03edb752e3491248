// Validates Kubernetes manifests strictly and offline: validate_kubernetes.mjs TOOLS_FOLDER FILE.yaml ...
//
// Twice, by what the npm package kubernetes-models was generated into from the API's own description:
// its JSON schema functions, for types, enumerations, formats and required fields; and its TypeScript interfaces, for
// unknown fields, which the schemas let pass. A manifest written out as a literal of its interface's type is refused by
// the compiler where it has a field that the interface lacks ("excess property check").
import fs from "node:fs";
import path from "node:path";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const [tools, ...files] = process.argv.slice(2);
const require = createRequire(path.resolve(tools, "package.json"));
const ts = require("typescript");
const yaml = require("yaml");
const scratch = path.resolve(tools, "manifests");
let failures = 0;

function fail(file, message) {
  console.log(`${path.basename(file)}: ${message}`);
  ++failures;
}

/// All documents of a file, with a key given twice, a tab or an unknown tag refused.
function read(file) {
  const documents = yaml.parseAllDocuments(fs.readFileSync(file, "utf8"), { strict: true, uniqueKeys: true });
  for (const document of documents)
    for (const problem of [...document.errors, ...document.warnings]) fail(file, problem.message);
  return documents.map((document) => document.toJS());
}

/// Where the package keeps a kind: "kubernetes-models/apps/v1/StatefulSet".
function moduleOf(manifest) {
  return `kubernetes-models/${manifest.apiVersion}/${manifest.kind}`;
}

async function checkSchema(file, manifest) {
  const resolved = path.join(tools, "node_modules", `${moduleOf(manifest)}.js`);
  if (!fs.existsSync(resolved)) return fail(file, `${manifest.apiVersion} ${manifest.kind}: no such kind`);
  const kind = (await import(pathToFileURL(path.resolve(resolved)).href))[manifest.kind];
  try {
    new kind(manifest).validate();
  } catch (error) {
    fail(file, `${manifest.kind}: ${error.message}`);
  }
}

/// Writes the manifest as a literal, and returns the file.
function writeLiteral(file, index, manifest) {
  const source = path.join(scratch, `${path.basename(file, ".yaml")}_${index}.ts`);
  const text = `import type { I${manifest.kind} } from "${moduleOf(manifest)}";
export const manifest: I${manifest.kind} = ${JSON.stringify(manifest, null, 2)};
`;
  fs.writeFileSync(source, text);
  return source;
}

function checkFields(literals) {
  const program = ts.createProgram([...literals.keys()], {
    strict: true, noEmit: true, skipLibCheck: true, types: [],
    target: ts.ScriptTarget.ES2022, module: ts.ModuleKind.ES2022, moduleResolution: ts.ModuleResolutionKind.Bundler,
  });
  for (const problem of ts.getPreEmitDiagnostics(program)) {
    const file = problem.file ? literals.get(problem.file.fileName) : undefined;
    const message = ts.flattenDiagnosticMessageText(problem.messageText, " ");
    const line = problem.file?.text.split("\n")[problem.file.getLineAndCharacterOfPosition(problem.start).line];
    fail(file ?? "types", `at ${line?.trim() ?? "?"}  ${message}`);
  }
}

fs.rmSync(scratch, { recursive: true, force: true });
fs.mkdirSync(scratch);
const literals = new Map();
let checked = 0;
for (const file of files.filter((name) => path.basename(name) !== "kustomization.yaml")) {
  for (const [index, manifest] of read(file).entries()) {
    if (typeof manifest?.apiVersion !== "string" || typeof manifest?.kind !== "string") {
      fail(file, "expected a manifest with apiVersion and kind");
      continue;
    }
    await checkSchema(file, manifest);
    literals.set(writeLiteral(file, index, manifest), file);
    ++checked;
  }
}
checkFields(literals);
console.log(failures === 0 ? `Kubernetes: ${checked} manifests ok` : `Kubernetes: ${failures} problems`);
process.exitCode = failures === 0 && checked > 0 ? 0 : 1;
