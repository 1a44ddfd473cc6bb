// Faders: a slider for each attribute, from -1 to 2 with 0..1 marked, in sections.

import { element, readable, settings } from "./page.js";

const LOWEST = -1;
const HIGHEST = 2;
const STEP = 0.05;
const share = (value) => (Math.min(HIGHEST, Math.max(LOWEST, value)) - LOWEST) / (HIGHEST - LOWEST);
const TITLES = { face: "Face", hair: "Hair", expression: "Expression" };

let count = 0;

class Fader {
  // `estimate` is null where faces differ: the fader then stands in the middle until it is moved.
  constructor(attribute, estimate, moved, released) {
    this.attribute = attribute;
    this.estimate = estimate;
    this.value = null;
    this.moved = moved;
    this.released = released;
    const id = `fader-${count += 1}`;
    this.input = element("input", { type: "range", id, min: LOWEST, max: HIGHEST, step: "any" });
    this.input.dataset.attribute = attribute;
    this.output = element("output", { htmlFor: id });
    this.back = element("button", { type: "button", className: "back", textContent: "↺" });
    this.back.setAttribute("aria-label", `Set ${readable(attribute)} back`);
    this.track = element("div", { className: "track" }, this.input);
    const label = element("label", { htmlFor: id, textContent: readable(attribute) });
    this.node = element("div", { className: "fader" }, label, this.output, this.back, this.track);
    this.node.classList.toggle("open", estimate === null);
    this.#listen();
    this.show(null, estimate);
  }

  // Stand at `value` (null: untouched), or at `standing` where another fader took this one along.
  show(value, standing = this.estimate) {
    this.value = value;
    const now = value ?? standing ?? 0.5;
    this.input.value = now;
    const text = value === null && this.estimate === null ? "as it is" : now.toFixed(2);
    this.output.textContent = text;
    this.node.classList.toggle("moved", value !== null);
    this.track.style.setProperty("--estimate", share(this.estimate ?? 0.5));
    this.track.style.setProperty("--estimated", this.estimate === null ? 0 : 1);
    const estimated = this.estimate === null ? "" : `, estimated ${this.estimate.toFixed(2)}`;
    this.input.setAttribute("aria-valuetext", `${text}${estimated}`);
  }

  #set(value) {
    const kept = Math.round(Math.min(HIGHEST, Math.max(LOWEST, value)) * 100) / 100;
    this.show(kept);
    this.moved(this.attribute, kept);
  }

  #reset() {
    if (this.value === null) return;
    this.show(null);
    this.moved(this.attribute, null);
    this.released();
  }

  #listen() {
    const { input } = this;
    input.addEventListener("input", () => this.#set(Number(input.value)));
    input.addEventListener("change", () => this.released());
    input.addEventListener("dblclick", () => this.#reset());
    this.back.addEventListener("click", () => { this.#reset(); input.focus(); });
    input.addEventListener("keydown", (event) => {
      const steps = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1, PageUp: 5, PageDown: -5 };
      if (event.key in steps) {
        const from = Number(input.value);
        this.#set(from + steps[event.key] * STEP);
      } else if (event.key === "Home") this.#set(LOWEST);
      else if (event.key === "End") this.#set(HIGHEST);
      else if (event.key === "Delete" || event.key === "Backspace") {
        event.preventDefault();
        this.#reset();
        return;
      } else return;
      event.preventDefault();
      clearTimeout(this.later);
      this.later = setTimeout(() => this.released(), 350);
    });
  }
}

// Fills `place`; returns the faders by attribute.
export async function makeFaders(place, attributes, estimates, moved, released) {
  const { sections } = await settings();
  const faders = {};
  const groups = { face: [], hair: [], expression: [] };
  for (const attribute of attributes) {
    const fader = new Fader(attribute, estimates?.[attribute] ?? null, moved, released);
    faders[attribute] = fader;
    groups[sections[attribute] ?? "face"].push(fader.node);
  }
  place.replaceChildren();
  for (const [section, nodes] of Object.entries(groups)) {
    if (!nodes.length) continue;
    const title = element("h3", { textContent: TITLES[section] });
    const scale = element("div", { className: "scale" });
    scale.setAttribute("aria-hidden", "true");
    for (const mark of [LOWEST, 0, 1, HIGHEST]) {
      const at = element("span", { textContent: String(mark).replace("-", "−") });
      at.style.setProperty("--at", share(mark));
      scale.append(at);
    }
    place.append(element("div", { className: "section" }, title, ...nodes, scale));
  }
  return faders;
}
