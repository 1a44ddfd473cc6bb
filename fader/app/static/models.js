// What the server has: each model's attributes, its card, and which one edits.

import { call, json } from "./api.js";
import { reopen } from "./edit.js";
import { render } from "./markdown.js";
import { $, complain, element, readable, shared, tell } from "./page.js";

let changed = () => {};

export async function modelList() {
  return json("/api/models");
}

export function attributesOf(models) {
  const current = models.find(({ name, first }) => (shared.model ? name === shared.model : first));
  return current?.attributes ?? [];
}

export async function showModels() {
  try {
    const models = await modelList();
    $("model-list").replaceChildren(...models.map(card));
    const current = models.find(({ name, first }) => (shared.model ? name === shared.model : first));
    if (current && $("model-card").hidden) showCard(current);
  } catch (error) {
    complain(error);
  }
}

function card(model) {
  const current = shared.model ? model.name === shared.model : model.first;
  const state = current ? "in use" : model.loaded ? "loaded" : "not loaded";
  const head = element("div", { className: "row spread" },
    element("h2", { textContent: model.name }), element("span", { className: "badge", textContent: state }));
  const facts = element("p", { className: "quiet", textContent: model.error ?? `${model.size} pixels, ${model.attributes.length} ${model.attributes.length === 1 ? "attribute" : "attributes"}` });
  const chips = element("div", { className: "chips" },
    ...model.attributes.map((name) => element("span", { className: "badge", textContent: readable(name) })));
  const use = element("button", { type: "button", textContent: current ? "In use" : "Use this model", disabled: current || Boolean(model.error) });
  use.addEventListener("click", () => useModel(model.name, use));
  const more = element("button", { type: "button", textContent: "Model card" });
  more.addEventListener("click", () => { showCard(model); $("model-card").scrollIntoView(); });
  const made = element("article", { className: "card" }, head, facts, chips, element("div", { className: "row" }, use, more));
  made.classList.toggle("current", current);
  return made;
}

function showCard(model) {
  $("model-card").replaceChildren(...render(model.card || model.error || ""));
  $("model-card").hidden = false;
}

async function useModel(name, button) {
  button.disabled = true;
  button.textContent = "Loading";
  try {
    await call(`/api/models/${encodeURIComponent(name)}/load`, { method: "POST" });
    shared.model = name;
    tell(`${name} is in use`);
    reopen();
    changed();
  } catch (error) {
    complain(error);
  }
  showModels();
}

export function startModels(whenChanged) {
  changed = whenChanged;
}
