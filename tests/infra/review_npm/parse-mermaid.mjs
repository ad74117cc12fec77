// Reads a JSON array of diagrams from stdin and prints an array of their types, "error: ..." for one that does not parse.
import fs from "node:fs";
import { JSDOM } from "jsdom";

// Mermaid cleans labels with the DOM of a browser.
globalThis.window = new JSDOM("").window;
globalThis.document = window.document;
const { default: mermaid } = await import("mermaid");

const found = [];
for (const text of JSON.parse(fs.readFileSync(0, "utf8"))) {
  try {
    found.push((await mermaid.parse(text)).diagramType);
  } catch (error) {
    found.push(`error: ${error.message}`);
  }
}
console.log(JSON.stringify(found));
