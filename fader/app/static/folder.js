// A folder: many photos, one setting, a zip with the results.

import { form, json, post } from "./api.js";
import { makeFaders } from "./faders.js";
import { $, complain, quiet, shared, takeDrops, tell } from "./page.js";

const folder = { files: [], values: {}, job: null, source: null, faders: {} };

// Requests are limited in size, so photos go in several.
const TOGETHER = 24 * 1024 * 1024;

function buttons() {
  const running = folder.source !== null;
  const set = Object.keys(folder.values).length > 0;
  $("folder-start").disabled = running || !folder.files.length || !set;
  $("folder-clear").disabled = running || !folder.files.length;
  const size = folder.files.reduce((sum, file) => sum + file.size, 0) / 1048576;
  const n = folder.files.length;
  $("folder-count").textContent = n
    ? `${n} ${n === 1 ? "file" : "files"}, ${size.toFixed(1)} MB${set ? "" : "; now move a fader"}`
    : "No photos yet.";
}

function take(files) {
  folder.files.push(...files);
  quiet();
  buttons();
}

function* batches() {
  let some = [], size = 0;
  for (const file of folder.files) {
    if (some.length && size + file.size > TOGETHER) {
      yield some;
      some = [], size = 0;
    }
    some.push(file);
    size += file.size;
  }
  if (some.length) yield some;
}

async function start() {
  quiet();
  $("folder-start").disabled = true;
  $("folder-result").hidden = true;
  $("folder-cancel").hidden = false;
  $("folder-run").hidden = false;
  $("folder-progress").removeAttribute("value");
  $("folder-state").textContent = "Sending";
  try {
    folder.job = (await (await post("/api/folders", form({ start: "false" }))).json()).id;
    for (const some of batches()) {
      const data = new FormData();
      for (const file of some) data.append("photos", file, file.name);
      await post(`/api/folders/${folder.job}/photos`, data);
    }
    const set = Object.entries(folder.values).map(([name, value]) => `${name}=${value}`).join(",");
    const fields = { set, face: $("folder-face").value };
    if (shared.model) fields.model = shared.model;
    await post(`/api/folders/${folder.job}/start`, form(fields));
    watch(folder.job);
  } catch (error) {
    complain(error);
    stop();
    $("folder-run").hidden = true;
    if (folder.job) fetch(`/api/folders/${folder.job}`, { method: "DELETE" });
  }
}

function watch(id) {
  folder.source = new EventSource(`/api/folders/${id}/events`);
  folder.source.addEventListener("progress", (event) => show(JSON.parse(event.data)));
  folder.source.onerror = () => {
    if (folder.source?.readyState === EventSource.CLOSED) stop();
  };
  buttons();
}

function show(job) {
  const bar = $("folder-progress");
  bar.max = Math.max(1, job.total);
  bar.value = job.done;
  const counts = Object.entries(job.counts).map(([status, n]) => `${n} ${status}`).join(", ");
  const words = { running: `${job.done} of ${job.total}`, done: "Finished", cancelled: "Cancelled", failed: "Failed" };
  $("folder-state").textContent = [words[job.state] ?? job.state, counts, job.detail].filter(Boolean).join(": ");
  if (job.state === "running" || job.state === "waiting") return;
  stop();
  if (job.state === "done") {
    $("folder-result").href = `/api/folders/${job.id}/result`;
    $("folder-result").hidden = false;
    tell("The folder is finished");
  }
}

function stop() {
  folder.source?.close();
  folder.source = null;
  $("folder-cancel").hidden = true;
  buttons();
}

async function cancel() {
  if (!folder.job) return;
  try {
    show(await json(`/api/folders/${folder.job}`, { method: "DELETE" }));
  } catch (error) {
    complain(error);
  }
}

export async function showFolder(attributes) {
  folder.values = {};
  const moved = (name, value) => {
    // A value below zero is a move on the command line, which a folder's faces do not share.
    const kept = value === null ? null : Math.max(0, value);
    if (kept === null) delete folder.values[name];
    else folder.values[name] = kept;
    if (kept !== value) folder.faders[name].show(kept);
    buttons();
  };
  folder.faders = await makeFaders($("folder-faders"), attributes, null, moved, () => {});
  buttons();
}

export function startFolder() {
  $("folder-choose").addEventListener("click", () => $("folder-files").click());
  $("folder-files").addEventListener("change", () => {
    take([...$("folder-files").files]);
    $("folder-files").value = "";
  });
  takeDrops($("page-folder"), take);
  $("folder-clear").addEventListener("click", () => { folder.files = []; buttons(); });
  $("folder-start").addEventListener("click", start);
  $("folder-cancel").addEventListener("click", cancel);
}
