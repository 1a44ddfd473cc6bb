// So much of Markdown as model cards use, as elements: no text of a card becomes HTML.

import { element } from "./page.js";

function inline(text) {
  const parts = text.split(/(`[^`]+`|\*\*[^*]+\*\*|\[[^\]]+\]\([^)]+\))/);
  return parts.map((part) => {
    if (part.startsWith("`")) return element("code", { textContent: part.slice(1, -1) });
    if (part.startsWith("**")) return element("strong", { textContent: part.slice(2, -2) });
    const link = part.match(/^\[([^\]]+)\]\(([^)]+)\)$/);
    return link ? link[1] : part;
  });
}

function table(lines) {
  const rows = lines.map((line) => line.replace(/^\||\|$/g, "").split("|").map((cell) => cell.trim()));
  const made = element("table");
  rows.forEach((cells, i) => {
    if (cells.every((cell) => /^:?-+:?$/.test(cell))) return;
    if (i === 0 && cells.every((cell) => !cell)) return;
    const row = element("tr");
    for (const cell of cells) row.append(element(i === 0 ? "th" : "td", {}, ...inline(cell)));
    made.append(row);
  });
  return element("div", { className: "table" }, made);
}

export function render(text) {
  const blocks = text.replace(/\r/g, "").split(/\n\s*\n/);
  return blocks.flatMap((block) => {
    const lines = block.split("\n").filter((line) => line.trim());
    if (!lines.length) return [];
    const head = lines[0].match(/^(#+)\s+(.*)/);
    if (head) {
      const tag = `h${Math.min(4, head[1].length + 1)}`;
      return [element(tag, {}, ...inline(head[2])), ...render(lines.slice(1).join("\n"))];
    }
    if (lines.every((line) => line.trim().startsWith("|"))) return [table(lines.map((line) => line.trim()))];
    if (/^[-*] /.test(lines[0])) {
      const items = block.split(/\n(?=[-*] )/).map((item) => element("li", {}, ...inline(item.slice(2).replaceAll("\n", " "))));
      return [element("ul", {}, ...items)];
    }
    return [element("p", {}, ...inline(lines.join(" ")))];
  });
}
