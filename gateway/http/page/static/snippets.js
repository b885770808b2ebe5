// The page's comparison as a request that one can run elsewhere. Tests run what these write.

/** In single quotes, as any POSIX shell reads them. */
function quoted(text) {
  return `'${text.replaceAll("'", "'\\''")}'`;
}

/**
 * @param {{url: string, variant: string, labels: string[], file: string, sample: string | null, address: string | null,
 *   key: boolean}} asked
 * `sample`: where the file can be had, if it is one of the page's own; `address`: of a picture that the server fetches.
 */
export function curl({ url, variant, labels, file, sample, address, key }) {
  const call = [
    `curl -s ${quoted(`${url}perception_encoder/compare`)} \\`,
    `  -H 'Content-Type: application/json' \\`,
    ...(key ? ['  -H "Authorization: Bearer $PE_API_KEY" \\'] : []),
  ];
  if (address) {
    const subject = { type: "url", value: address };
    const body = JSON.stringify({ perception_encoder_version_id: variant, prompt: labels, subject });
    return [...call, `  --data-binary ${quoted(body)}`].join("\n");
  }
  const rest = JSON.stringify({ perception_encoder_version_id: variant, prompt: labels });
  const open = `${rest.slice(0, -1)},"subject":{"type":"base64","value":"`;
  return [
    ...(sample ? [`curl -sO ${quoted(sample)}`] : []),
    `{ printf %s ${quoted(open)}`,
    `  base64 < ${quoted(file.startsWith("-") ? `./${file}` : file)} | tr -d '\\n'`,
    `  printf %s '"}}'; } |`,
    ...call,
    "  --data-binary @-",
  ].join("\n");
}

/** JSON's strings are Python's, too. */
export function python({ url, variant, labels, file, sample, address, key }) {
  const headers = key
    ? '{"Content-Type": "application/json", "Authorization": "Bearer " + os.environ["PE_API_KEY"]}'
    : '{"Content-Type": "application/json"}';
  const fetched = sample ? `urllib.request.urlretrieve(${JSON.stringify(sample)}, ${JSON.stringify(file)})\n` : "";
  const subject = address
    ? `subject = {"type": "url", "value": ${JSON.stringify(address)}}`
    : `${fetched}with open(${JSON.stringify(file)}, "rb") as picture:
    subject = {"type": "base64", "value": base64.b64encode(picture.read()).decode()}`;
  return `${address ? "" : "import base64\n"}import json
${key ? "import os\n" : ""}import urllib.request

${subject}
labels = ${list(labels)}
body = {
    "perception_encoder_version_id": ${JSON.stringify(variant)},
    "subject": subject,
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
