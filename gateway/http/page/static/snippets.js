// The page's comparison as a request that one can run elsewhere. Tests run what these write.

/** In single quotes, as any POSIX shell reads them. */
function quoted(text) {
  return `'${text.replaceAll("'", "'\\''")}'`;
}

/**
 * @param {{url: string, variant: string, labels: string[], file: string, sample: string | null, key: boolean}} asked
 * `sample`: where the file can be had, if it is one of the page's own.
 */
export function curl({ url, variant, labels, file, sample, key }) {
  const rest = JSON.stringify({ perception_encoder_version_id: variant, prompt: labels });
  const open = `${rest.slice(0, -1)},"subject":{"type":"base64","value":"`;
  return [
    ...(sample ? [`curl -sO ${quoted(sample)}`] : []),
    `{ printf %s ${quoted(open)}`,
    `  base64 < ${quoted(file.startsWith("-") ? `./${file}` : file)} | tr -d '\\n'`,
    `  printf %s '"}}'; } |`,
    `curl -s ${quoted(`${url}perception_encoder/compare`)} \\`,
    `  -H 'Content-Type: application/json' \\`,
    ...(key ? ['  -H "Authorization: Bearer $PE_API_KEY" \\'] : []),
    "  --data-binary @-",
  ].join("\n");
}

/** JSON's strings are Python's, too. */
export function python({ url, variant, labels, file, sample, key }) {
  const headers = key
    ? '{"Content-Type": "application/json", "Authorization": "Bearer " + os.environ["PE_API_KEY"]}'
    : '{"Content-Type": "application/json"}';
  return `import base64
import json
${key ? "import os\n" : ""}import urllib.request

${sample ? `urllib.request.urlretrieve(${JSON.stringify(sample)}, ${JSON.stringify(file)})\n` : ""}with open(${JSON.stringify(file)}, "rb") as picture:
    subject = base64.b64encode(picture.read()).decode()
labels = ${list(labels)}
body = {
    "perception_encoder_version_id": ${JSON.stringify(variant)},
    "subject": {"type": "base64", "value": subject},
    "prompt": labels,
}
request = urllib.request.Request(
    ${JSON.stringify(`${url}perception_encoder/compare`)},
    json.dumps(body).encode(),
    ${headers},
)
with urllib.request.urlopen(request) as response:
    for label, cosine in zip(labels, json.load(response)["similarity"]):
        print(f"{cosine:.4f}  {label}")`;
}

function list(labels) {
  return `[\n${labels.map((label) => `    ${JSON.stringify(label)},\n`).join("")}]`;
}
