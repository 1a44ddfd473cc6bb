// The OpenAPI description as a page, drawn here so that it works offline.

import { element } from "./page.js";

function kindOf(schema, all) {
  if (!schema) return "";
  if (schema.$ref) return kindOf(all[schema.$ref.split("/").pop()], all);
  if (schema.anyOf) return schema.anyOf.map((one) => kindOf(one, all)).join(" or ");
  if (schema.enum) return schema.enum.map((one) => JSON.stringify(one)).join(" or ");
  if (schema.const !== undefined) return JSON.stringify(schema.const);
  return schema.format === "binary" ? "file" : schema.type ?? "";
}

function rows(fields) {
  const table = element("table", {}, element("tr", {}, ...["name", "in", "type", "default", "meaning"].map((t) => element("th", { textContent: t }))));
  for (const cells of fields) {
    table.append(element("tr", {}, ...cells.map((text) => element("td", { textContent: text ?? "" }))));
  }
  return element("div", { className: "table" }, table);
}

function operation(path, verb, described, all) {
  const title = element("h3", {}, element("span", { className: "verb", textContent: verb.toUpperCase() }), " ", element("code", { textContent: path }));
  const text = (described.description ?? described.summary ?? "").split("\n\n");
  const fields = (described.parameters ?? []).map(({ name, in: place, schema, description }) =>
    [name, place, kindOf(schema, all), schema.default, description]);
  for (const [media, { schema }] of Object.entries(described.requestBody?.content ?? {})) {
    const whole = schema.$ref ? all[schema.$ref.split("/").pop()] : schema;
    if (whole.description) text.push(whole.description);
    for (const [name, one] of Object.entries(whole.properties ?? {})) {
      fields.push([name, media, kindOf(one, all), JSON.stringify(one.default), one.description]);
    }
  }
  const paragraphs = text.map((one) => element("p", { textContent: one }));
  return element("article", {}, title, ...paragraphs, ...(fields.length ? [rows(fields)] : []));
}

const api = await (await fetch("/openapi.json")).json();
const all = api.components?.schemas ?? {};
const place = document.getElementById("api");
place.append(element("p", { textContent: api.info.description }));
const sections = {};
for (const [path, verbs] of Object.entries(api.paths)) {
  for (const [verb, described] of Object.entries(verbs)) {
    const tag = described.tags?.[0] ?? "other";
    sections[tag] ??= [];
    sections[tag].push(operation(path, verb, described, all));
  }
}
for (const [tag, articles] of Object.entries(sections)) {
  place.append(element("section", {}, element("h2", { textContent: tag.charAt(0).toUpperCase() + tag.slice(1) }), ...articles));
}
