// The divider between before and after: dragged, or moved by the arrow keys.

import { $ } from "./page.js";

export function setSplit(percent) {
  const kept = Math.min(100, Math.max(0, percent));
  const stage = $("stage");
  stage.style.setProperty("--split", `${kept}%`);
  stage.style.setProperty("--split-line", kept > 0 && kept < 100 ? 1 : 0);
  for (const tag of stage.querySelectorAll(".tag")) tag.hidden = kept === 0;
  const divider = $("divider");
  divider.setAttribute("aria-valuenow", Math.round(kept));
  const words = kept === 0 ? "all of it edited" : kept === 100 ? "all of it as it was" : `${Math.round(kept)} % as it was`;
  divider.setAttribute("aria-valuetext", words);
}

export function startCompare() {
  const divider = $("divider");
  const at = (event) => {
    const box = $("stage").getBoundingClientRect();
    const percent = (100 * (event.clientX - box.left)) / box.width;
    // The knob is this wide, so the edges are reached before the pointer is.
    setSplit(percent < 3 ? 0 : percent > 97 ? 100 : percent);
  };
  divider.addEventListener("pointerdown", (event) => {
    event.preventDefault();
    divider.focus();
    divider.setPointerCapture(event.pointerId);
  });
  divider.addEventListener("pointermove", (event) => {
    if (divider.hasPointerCapture(event.pointerId)) at(event);
  });
  divider.addEventListener("keydown", (event) => {
    const now = Number(divider.getAttribute("aria-valuenow"));
    const to = { ArrowRight: now + 5, ArrowUp: now + 5, ArrowLeft: now - 5, ArrowDown: now - 5, Home: 0, End: 100 };
    if (!(event.key in to)) return;
    event.preventDefault();
    setSplit(to[event.key]);
  });
}
