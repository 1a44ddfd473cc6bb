// One photo: its faces, their faders, and what was done to them.

import { Latest, call, form, post, save } from "./api.js";
import { setSplit, startCompare } from "./compare.js";
import { makeFaders } from "./faders.js";
import { $, complain, element, quiet, readable, shared, takeDrops, tell } from "./page.js";

const photo = { file: null, about: null, face: 0, faders: {}, edits: {}, past: [], future: [] };
let settled = "{}";
let account = null;
const moves = new Latest();
const releases = new Latest();
const urls = new Map();

const side = () => Math.min(2400, Math.max(640, Math.round(1100 * Math.min(2, devicePixelRatio))));

export async function openPhoto(file, edits = {}) {
  quiet();
  $("drop").classList.add("busy");
  tell("Looking for faces");
  try {
    const fields = { photo: file };
    if (shared.model) fields.model = shared.model;
    const about = await (await post("/api/photos", form(fields))).json();
    Object.assign(photo, { file, about, face: 0, edits, past: [], future: [] });
    settled = JSON.stringify(edits);
    account = null;
    await showPhoto();
    const first = about.faces.find((face) => face.editable);
    if (first) await chooseFace(first.number);
    else noFace();
    if (Object.keys(edits).length) release();
  } catch (error) {
    complain(error, error.status === 429 ? () => openPhoto(file, edits) : null);
  } finally {
    $("drop").classList.remove("busy");
  }
}

async function showPhoto() {
  const { id, width, height, faces } = photo.about;
  $("drop").hidden = true;
  $("work").hidden = false;
  $("stage").style.setProperty("--ratio", width / height);
  setSplit(0);
  forgetPictures();
  $("before").src = `/api/photos/${id}/picture?side=${side()}`;
  $("faces").replaceChildren(...faces.map((face) => outline(face, width, height)));
  $("command").hidden = true;
  $("notes").textContent = "";
  buttons();
}

function outline(face, width, height) {
  const [x0, y0, x1, y1] = face.box;
  const button = element("button", { type: "button", className: "face" });
  button.dataset.face = face.number;
  const name = `Face ${face.number}`;
  button.setAttribute("aria-label", face.editable ? name : `${name}, too small to edit`);
  button.setAttribute("aria-pressed", "false");
  button.disabled = !face.editable;
  const left = Math.max(0, x0) / width, top = Math.max(0, y0) / height;
  button.style.left = `${100 * left}%`;
  button.style.top = `${100 * top}%`;
  button.style.width = `${100 * (Math.min(1, x1 / width) - left)}%`;
  button.style.height = `${100 * (Math.min(1, y1 / height) - top)}%`;
  if (photo.about.faces.length > 1) button.append(element("span", { textContent: face.number }));
  else button.classList.add("alone");
  button.addEventListener("click", () => chooseFace(face.number));
  return button;
}

function noFace() {
  $("faders").replaceChildren();
  $("face-title").textContent = "No face";
  $("strip").hidden = true;
  complain(new Error(`${photo.about.name}: no face found; a face must be turned to the camera and 32 pixels wide or more`));
}

async function chooseFace(number) {
  photo.face = number;
  const face = photo.about.faces[number - 1];
  const several = photo.about.faces.length > 1;
  for (const button of $("faces").children) {
    button.setAttribute("aria-pressed", String(Number(button.dataset.face) === number));
  }
  $("face-title").textContent = several ? `Face ${number} of ${photo.about.faces.length}` : "Face";
  $("face-hint").textContent = several ? "click another in the photo" : "";
  photo.faders = await makeFaders($("faders"), photo.about.attributes, face.attributes, moved, released);
  $("strip").hidden = false;
  $("strip-attribute").replaceChildren(
    ...photo.about.attributes.map((name) => element("option", { value: name, textContent: readable(name) })),
  );
  showFaders();
}

function showFaders() {
  const values = photo.edits[photo.face] ?? {};
  const after = account?.faces?.[photo.face]?.after ?? {};
  for (const [name, fader] of Object.entries(photo.faders)) {
    // A fader that is only taken along by another stands where that took it.
    fader.show(values[name] ?? null, Object.keys(values).length ? after[name] : undefined);
  }
}

// A move: the face alone is drawn, the latest move first.

function moved(attribute, value) {
  const values = { ...photo.edits[photo.face] };
  if (value === null) delete values[attribute];
  else values[attribute] = value;
  photo.edits = { ...photo.edits, [photo.face]: values };
  if (!Object.keys(values).length) delete photo.edits[photo.face];
  moves.run(draw);
}

async function draw() {
  const { id } = photo.about;
  const number = photo.face;
  const query = new URLSearchParams(photo.edits[number] ?? {});
  query.set("side", 512);
  try {
    const response = await call(`/api/photos/${id}/faces/${number}/preview?${query}`);
    const blob = await response.blob();
    if (id !== photo.about.id || number !== photo.face) return;
    const [x0, y0, x1, y1] = photo.about.faces[number - 1].region;
    const { width, height } = photo.about;
    const live = $("live");
    await put(live, blob);
    live.style.left = `${(100 * x0) / width}%`;
    live.style.top = `${(100 * y0) / height}%`;
    live.style.width = `${(100 * (x1 - x0)) / width}%`;
    live.style.height = `${(100 * (y1 - y0)) / height}%`;
    live.hidden = false;
    const after = JSON.parse(response.headers.get("fader-edit"));
    for (const [name, fader] of Object.entries(photo.faders)) {
      if (fader.value === null) fader.show(null, after[name]);
    }
  } catch (error) {
    if (error.status !== 409) failed(error);
  }
}

// The release: the whole photo is composed, and what was done can be undone.

function released() {
  const now = JSON.stringify(photo.edits);
  if (now === settled) return;
  photo.past.push(settled);
  photo.future = [];
  settled = now;
  release();
}

function release() {
  buttons();
  releases.run(compose);
}

async function compose() {
  const asked = JSON.stringify(photo.edits);
  const { id } = photo.about;
  $("stage").setAttribute("aria-busy", "true");
  try {
    const response = await post(`/api/photos/${id}/edit?side=${side()}`, { faces: photo.edits });
    const blob = await response.blob();
    if (id !== photo.about.id) return;
    account = JSON.parse(response.headers.get("fader-edit"));
    await put($("after"), blob);
    $("after").hidden = false;
    if (asked === JSON.stringify(photo.edits)) {
      moves.forget();
      $("live").hidden = true;
      showFaders();
      $("stage").dataset.shown = asked;
    }
    $("notes").textContent = account.notes.join("; ");
    if (!$("command").hidden) $("command").textContent = account.command;
    tell("The photo is edited");
  } catch (error) {
    if (error.status !== 409) failed(error);
  } finally {
    $("stage").setAttribute("aria-busy", "false");
    buttons();
  }
}

function failed(error) {
  const { file } = photo;
  const lost = error.status === 410 || error.status === 404;
  complain(error, lost && file ? () => openPhoto(file, photo.edits) : null);
}

// A picture takes the place of another only when it is decoded, so that nothing flickers.
async function put(image, blob) {
  const url = URL.createObjectURL(blob);
  const fresh = new Image();
  fresh.src = url;
  await fresh.decode();
  image.src = url;
  if (urls.has(image)) URL.revokeObjectURL(urls.get(image));
  urls.set(image, url);
}

function forgetPictures() {
  delete $("stage").dataset.shown;
  for (const image of [$("after"), $("live")]) {
    image.hidden = true;
    image.removeAttribute("src");
    if (urls.has(image)) URL.revokeObjectURL(urls.get(image));
    urls.delete(image);
  }
}

function step(from, to) {
  if (!from.length) return;
  to.push(settled);
  settled = from.pop();
  photo.edits = JSON.parse(settled);
  showFaders();
  release();
}

function buttons() {
  $("undo").disabled = !photo.past.length;
  $("redo").disabled = !photo.future.length;
  const none = !Object.keys(photo.edits).length;
  $("original").disabled = none;
  $("copy").disabled = none;
  if (none) $("command").hidden = true;
}

async function download() {
  try {
    const response = await post(`/api/photos/${photo.about.id}/edit`, { faces: photo.edits });
    save(await response.blob(), photo.about.output);
    tell(`Saved ${photo.about.output}`);
  } catch (error) {
    failed(error);
  }
}

async function copyCommand() {
  try {
    // Of what is set now, whatever is being composed.
    const response = await post(`/api/photos/${photo.about.id}/edit?side=64`, { faces: photo.edits });
    account = JSON.parse(response.headers.get("fader-edit"));
    $("command").textContent = account.command;
    $("command").hidden = false;
    await navigator.clipboard.writeText(account.command);
    tell("The command is copied");
  } catch (error) {
    // Without a clipboard the command is there to be selected.
    if (error.status !== undefined) failed(error);
    else getSelection().selectAllChildren($("command"));
  }
}

async function makeStrip(event) {
  event.preventDefault();
  const kind = event.submitter?.value ?? "png";
  const query = new URLSearchParams({
    attribute: $("strip-attribute").value,
    from: $("strip-from").value,
    to: $("strip-to").value,
    steps: $("strip-steps").value,
    as: kind,
  });
  try {
    const response = await call(`/api/photos/${photo.about.id}/faces/${photo.face}/strip?${query}`);
    const image = $("strip-result").querySelector("img");
    await put(image, await response.blob());
    const link = $("strip-result").querySelector("a");
    link.href = image.src;
    link.download = `${photo.about.name.replace(/\.[^.]*$/, "")}.${$("strip-attribute").value}.${kind}`;
    $("strip-result").hidden = false;
  } catch (error) {
    failed(error);
  }
}

async function useCamera() {
  const dialog = $("camera-dialog"), video = dialog.querySelector("video");
  try {
    const stream = await navigator.mediaDevices.getUserMedia({ video: { width: 1280 } });
    video.srcObject = stream;
    dialog.showModal();
    dialog.onclose = () => stream.getTracks().forEach((track) => track.stop());
  } catch {
    complain(new Error("the camera cannot be used; allow it in the browser, or choose a photo"));
  }
}

function shoot() {
  const video = $("camera-dialog").querySelector("video");
  const canvas = element("canvas", { width: video.videoWidth, height: video.videoHeight });
  canvas.getContext("2d").drawImage(video, 0, 0);
  $("camera-dialog").close();
  canvas.toBlob((blob) => openPhoto(new File([blob], "camera.png", { type: "image/png" })), "image/png");
}

async function takeExample() {
  const blob = await (await call("/static/example.jpg")).blob();
  openPhoto(new File([blob], "astronaut.jpg", { type: "image/jpeg" }));
}

// The same photo, with the model that is chosen now.
export function reopen() {
  if (photo.file) openPhoto(photo.file);
}

export function startEdit() {
  startCompare();
  $("choose").addEventListener("click", () => $("file").click());
  $("another").addEventListener("click", () => $("file").click());
  $("file").addEventListener("change", () => {
    const [file] = $("file").files;
    if (file) openPhoto(file);
    $("file").value = "";
  });
  takeDrops($("page-edit"), ([file]) => openPhoto(file));
  document.addEventListener("paste", (event) => {
    const [file] = event.clipboardData?.files ?? [];
    if (file && !$("page-edit").hidden) openPhoto(file);
  });
  $("example").addEventListener("click", () => takeExample().catch(complain));
  $("camera").addEventListener("click", useCamera);
  $("shoot").addEventListener("click", shoot);
  $("camera-close").addEventListener("click", () => $("camera-dialog").close());
  $("undo").addEventListener("click", () => step(photo.past, photo.future));
  $("redo").addEventListener("click", () => step(photo.future, photo.past));
  $("original").addEventListener("click", () => { photo.edits = {}; showFaders(); released(); });
  $("download").addEventListener("click", download);
  $("copy").addEventListener("click", copyCommand);
  $("strip-form").addEventListener("submit", makeStrip);
  document.addEventListener("keydown", (event) => {
    if (!(event.ctrlKey || event.metaKey) || $("page-edit").hidden) return;
    const typing = event.target.matches("input:not([type=range]), textarea, select");
    if (typing) return;
    const key = event.key.toLowerCase();
    if (key === "z" && !event.shiftKey) step(photo.past, photo.future);
    else if (key === "y" || (key === "z" && event.shiftKey)) step(photo.future, photo.past);
    else return;
    event.preventDefault();
  });
}
