// What all parts of the page share: messages, names, the settings of the server.

import { json } from "./api.js";

export const $ = (id) => document.getElementById(id);

export const shared = { settings: null, model: "", again: null };

export async function settings() {
  shared.settings ??= await json("/api/settings");
  return shared.settings;
}

export function tell(sentence) {
  $("status").textContent = sentence;
}

export function complain(error, again = null) {
  if (error.name === "AbortError") return;
  const box = $("message");
  box.querySelector("p").textContent = sentence(error.message);
  $("again").hidden = !again;
  shared.again = again;
  box.hidden = false;
}

export function quiet() {
  $("message").hidden = true;
}

function sentence(text) {
  const whole = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?]$/.test(whole) ? whole : `${whole}.`;
}

export function readable(attribute) {
  const words = attribute.replaceAll("_", " ");
  return words.charAt(0) + words.slice(1).toLowerCase();
}

export function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

// Files that are dropped on an element, or on the whole page while it shows.
export function takeDrops(area, take) {
  let depth = 0;
  area.addEventListener("dragenter", () => { depth += 1; area.classList.add("over"); });
  area.addEventListener("dragleave", () => { depth -= 1; if (depth <= 0) area.classList.remove("over"); });
  area.addEventListener("dragover", (event) => event.preventDefault());
  area.addEventListener("drop", (event) => {
    event.preventDefault();
    depth = 0;
    area.classList.remove("over");
    const files = [...event.dataTransfer.files];
    if (files.length) take(files);
  });
}
