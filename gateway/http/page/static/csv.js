// Comma-separated values (RFC 4180) that a spreadsheet opens without running what a file's name says.

const BYTE_ORDER_MARK = "\ufeff"; // without it, Excel does not read UTF-8
// https://owasp.org/www-community/attacks/CSV_Injection
const FORMULA = /^[=+\-@\t\r\n＝＋－＠]/;
const TO_QUOTE = /[",;\t\r\n]/; // spreadsheets in some languages separate by semicolons

/**
 * A row as text. Texts that a spreadsheet would take for a formula get an apostrophe in front.
 * @param {(string | number | null | undefined)[]} cells null: empty
 */
export function csvRow(cells) {
  return `${cells.map(cell).join(",")}\r\n`;
}

function cell(value) {
  if (value === null || value === undefined) return "";
  if (typeof value === "number") return String(value); // never quoted: -0.1 is a number and no formula
  const safe = FORMULA.test(value) ? `'${value}` : value;
  return TO_QUOTE.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}

/**
 * @param {string[]} head names of the columns
 * @param {Iterable<(string | number | null | undefined)[]>} rows
 */
export function csvFile(head, rows) {
  const parts = [BYTE_ORDER_MARK, csvRow(head)];
  for (const row of rows) parts.push(csvRow(row));
  return new Blob(parts, { type: "text/csv;charset=utf-8" });
}

/** The shortest decimal that gives the same float32 again. */
export const float32 = (value) => Number(value.toPrecision(9));
