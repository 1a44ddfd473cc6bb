// The one place that talks to the server.

export class Refusal extends Error {
  constructor(sentence, status) {
    super(sentence);
    this.status = status;
  }
}

export async function call(path, options = {}) {
  let response;
  try {
    response = await fetch(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refusal("the server does not answer; is fader app still running?", 0);
  }
  if (response.ok) return response;
  let sentence = `the server answered ${response.status}`;
  try {
    sentence = (await response.json()).detail || sentence;
  } catch { /* no JSON: the number has to do */ }
  throw new Refusal(sentence, response.status);
}

export async function json(path, options) {
  return (await call(path, options)).json();
}

export function post(path, body, options = {}) {
  if (body instanceof FormData) return call(path, { ...options, method: "POST", body });
  const headers = { "content-type": "application/json" };
  return call(path, { ...options, method: "POST", headers, body: JSON.stringify(body) });
}

// Runs one function at a time; of those asked for meanwhile only the last one.
export class Latest {
  #running = false;
  #next = null;

  async run(work) {
    this.#next = work;
    if (this.#running) return;
    this.#running = true;
    try {
      while (this.#next) {
        const now = this.#next;
        this.#next = null;
        await now();
      }
    } finally {
      this.#running = false;
    }
  }

  forget() {
    this.#next = null;
  }
}

export function form(fields) {
  const data = new FormData();
  for (const [name, value] of Object.entries(fields)) {
    if (value instanceof File) data.append(name, value, value.name);
    else data.append(name, value);
  }
  return data;
}

export function save(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}
