// Embed texts by JavaScript clients of OpenAI's interface, with their defaults: node clients.cjs CLIENT BASE_URL MODEL
//
// Reads a JSON list of texts from stdin, and writes {"version": ..., "embeddings": [...]}. NODE_PATH leads to the packages.
const fs = require("node:fs");
const path = require("node:path");

async function openai(baseURL, model, texts) {
  const { OpenAI } = require("openai");
  const client = new OpenAI({ baseURL, apiKey: "none" });
  const embed = async (input) => (await client.embeddings.create({ model, input })).data.map((item) => item.embedding);
  return [...(await embed(texts)), ...(await embed(texts[0]))];
}

async function aiSdk(baseURL, model, texts) {
  const { embed, embedMany } = require("ai");
  const { createOpenAI } = require("@ai-sdk/openai");
  const embedder = createOpenAI({ baseURL, apiKey: "none" }).embeddingModel(model);
  const { embeddings } = await embedMany({ model: embedder, values: texts });
  return [...embeddings, (await embed({ model: embedder, value: texts[0] })).embedding];
}

const CLIENTS = { openai: ["openai", openai], "ai-sdk": ["@ai-sdk/openai", aiSdk] };

async function main() {
  const [name, url, model] = process.argv.slice(2);
  const [packageName, embed] = CLIENTS[name];
  const texts = JSON.parse(fs.readFileSync(0, "utf8"));
  const manifest = path.join(process.env.NODE_PATH, packageName, "package.json");
  const { version } = JSON.parse(fs.readFileSync(manifest, "utf8"));
  fs.writeSync(1, JSON.stringify({ version, embeddings: await embed(`${url}/v1`, model, texts) }));
}

main();
