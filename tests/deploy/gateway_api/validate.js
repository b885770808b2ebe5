// Validate objects of the Gateway API, a JSON array on standard input, against its schemas. Prints a line a fault.
// The argument is the folder in which `npm ci` installed package-lock.json.
import { existsSync, readFileSync } from "node:fs";
import { resolve } from "node:path";
import { pathToFileURL } from "node:url";

const schemas = resolve(process.argv[2], "node_modules/@kubernetes-models/gateway-api/_schemas");

// The schemas allow any field beside those that they know. What a validator never reads is a field that it does not know.
function watched(node, path, unread) {
  if (node === null || typeof node !== "object") return node;
  const children = Object.create(null);
  for (const key of Object.keys(node)) {
    children[key] = watched(node[key], `${path}/${key}`, unread);
    if (!Array.isArray(node)) unread.add(`${path}/${key}`);
  }
  return new Proxy(node, {
    get(target, key) {
      unread.delete(`${path}/${String(key)}`);
      return key in children ? children[key] : target[key];
    },
    ownKeys(target) {
      for (const key of Object.keys(target)) unread.delete(`${path}/${key}`); // a map, such as labels
      return Reflect.ownKeys(target);
    },
  });
}

for (const object of JSON.parse(readFileSync(0, "utf8"))) {
  const name = `${object.kind} ${object.metadata?.name}`;
  const [group, version] = object.apiVersion.split("/");
  const schema = `${schemas}/IoK8sSigsGatewayApiApis${version[0].toUpperCase()}${version.slice(1)}${object.kind}.js`;
  if (group !== "gateway.networking.k8s.io" || !existsSync(schema)) {
    console.log(`${name}: no schema`);
    continue;
  }
  const { validate } = await import(pathToFileURL(schema).href);
  const unread = new Set();
  if (!validate(watched(object, "", unread))) {
    for (const error of validate.errors) {
      console.log(`${name}: ${error.instancePath}: ${error.keyword} ${JSON.stringify(error.params)}`);
    }
  }
  for (const path of unread) console.log(`${name}: ${path}: unknown field`);
}
