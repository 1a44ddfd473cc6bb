// Faces that nobody has.

import { json, post } from "./api.js";
import { openPhoto } from "./edit.js";
import { $, complain, element, quiet, readable, tell } from "./page.js";

let generators = [];
let large = null;

export async function showGenerate() {
  if (generators.length) return;
  try {
    generators = await json("/api/generators");
  } catch (error) {
    complain(error);
    return;
  }
  $("generator").replaceChildren(
    ...generators.map(({ name, size, channels }) =>
      element("option", { value: name, textContent: `${name} (${size} px${channels === 1 ? ", grey" : ""})` })),
  );
  labels();
}

const chosen = () => generators.find(({ name }) => name === $("generator").value);

function choice(title, name, options) {
  const select = element("select", {}, ...options.map(([value, text]) => element("option", { value, textContent: text })));
  select.dataset.label = name;
  return element("label", {}, title, select);
}

function labels() {
  const { kind, labels: names } = chosen();
  const place = $("labels");
  if (kind === "classes") {
    place.replaceChildren(choice("Emotion or class", "", [["", "any"], ...names.map((name) => [name, name])]));
  } else if (kind === "attributes") {
    place.replaceChildren(
      ...names.map((name) => choice(readable(name), name, [["", "any"], ["1", "with"], ["0", "without"]])),
    );
  } else place.replaceChildren();
}

async function generate(event) {
  event.preventDefault();
  quiet();
  const asked = {
    generator: $("generator").value,
    n: Number(new FormData($("generate-form")).get("n")),
    truncation: Number($("truncation").value),
    set: {},
    label: "",
  };
  if ($("seed").value !== "") asked.seed = Number($("seed").value);
  for (const select of $("labels").querySelectorAll("select")) {
    if (select.value === "") continue;
    if (select.dataset.label) asked.set[select.dataset.label] = Number(select.value);
    else asked.label = select.value;
  }
  $("generate").disabled = true;
  try {
    const drawn = await (await post("/api/generate", asked)).json();
    const place = $("drawn");
    place.classList.toggle("one", drawn.images.length === 1);
    const note = element("p", { className: "quiet", textContent: `Seed ${drawn.seed} draws the same again.` });
    place.replaceChildren(...drawn.images.map((image, i) => tile(image, i, drawn.seed)), note);
    place.scrollIntoView({ block: "nearest" });
    tell(`${drawn.images.length} ${drawn.images.length === 1 ? "face" : "faces"} drawn`);
  } catch (error) {
    complain(error);
  } finally {
    $("generate").disabled = false;
  }
}

function tile({ title, png }, i, seed) {
  const image = element("img", { src: `data:image/png;base64,${png}`, alt: title || "A drawn face" });
  const button = element("button", { type: "button", title }, image);
  button.setAttribute("aria-label", `Enlarge face ${i + 1}: ${title}`);
  button.addEventListener("click", () => {
    large = { src: image.src, name: `seed-${seed}-${i}.png` };
    const dialog = $("large");
    dialog.querySelector("img").src = image.src;
    dialog.querySelector("img").alt = title;
    dialog.querySelector("p").textContent = title;
    $("large-save").href = image.src;
    $("large-save").download = large.name;
    dialog.showModal();
  });
  return button;
}

// Drawn faces are small; enlarged, the detector finds them more surely.
async function editIt() {
  const image = new Image();
  image.src = large.src;
  await image.decode();
  const canvas = element("canvas", { width: 512, height: 512 });
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  context.drawImage(image, 0, 0, 512, 512);
  const blob = await new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
  $("large").close();
  location.hash = "edit";
  openPhoto(new File([blob], large.name, { type: "image/png" }));
}

export function startGenerate() {
  $("generator").addEventListener("change", labels);
  $("generate-form").addEventListener("submit", generate);
  const show = () => { $("truncation").nextElementSibling.textContent = Number($("truncation").value).toFixed(2); };
  $("truncation").addEventListener("input", show);
  $("large-edit").addEventListener("click", () => editIt().catch(complain));
  $("large-close").addEventListener("click", () => $("large").close());
}
