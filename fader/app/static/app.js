// The page: which part shows, and what starts each.

import { startEdit } from "./edit.js";
import { showFolder, startFolder } from "./folder.js";
import { showGenerate, startGenerate } from "./generate.js";
import { attributesOf, modelList, showModels, startModels } from "./models.js";
import { $, complain, quiet, settings, shared } from "./page.js";

const PAGES = ["edit", "folder", "generate", "models"];
let attributes = null;

async function prepareFolder() {
  if (attributes === shared.model) return;
  attributes = shared.model;
  await showFolder(attributesOf(await modelList()));
}

const SHOW = { edit: () => {}, folder: prepareFolder, generate: showGenerate, models: showModels };

function turn() {
  const asked = location.hash.slice(1);
  const page = PAGES.includes(asked) ? asked : "edit";
  for (const name of PAGES) $(`page-${name}`).hidden = name !== page;
  for (const link of document.querySelectorAll("nav a")) {
    if (link.hash === `#${page}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  quiet();
  Promise.resolve(SHOW[page]()).catch(complain);
}

// A file dropped beside the place for it must not replace the page.
for (const kind of ["dragover", "drop"]) window.addEventListener(kind, (event) => event.preventDefault());
$("dismiss").addEventListener("click", quiet);
$("again").addEventListener("click", () => { quiet(); shared.again?.(); });
startEdit();
startFolder();
startGenerate();
startModels(() => {});
window.addEventListener("hashchange", turn);
settings().then(({ version }) => { $("version").textContent = version; }).catch(complain);
turn();
document.documentElement.dataset.ready = "yes";
