// The server as the page sees it: its health, and one request for one picture.

const KEY = "cut-out.api-key";
// Milliseconds between questions while the server is not ready, and while it is gone.
const POLL = 700;

// Why a picture did not come back. kind: busy (try again after seconds), key, gone, refused.
export class Problem extends Error {
  constructor(kind, message, seconds = 0) {
    super(message);
    this.kind = kind;
    this.seconds = seconds;
  }
}

// Fires "health" when the state changes; `health.state` is one of /readyz, "gone" or "asking".
export class Server extends EventTarget {
  health = { state: "asking" };
  info = null;
  #timer = 0;
  #asking = null;
  #refused = false;

  get ready() { return this.health.state === "ready"; }
  get key() { return sessionStorage.getItem(KEY) ?? ""; }
  set key(value) { sessionStorage.setItem(KEY, value); }
  get needsKey() { return (this.#refused || this.info?.key === true) && !this.key; }

  // Asks until the server is ready; a call while that goes on asks at once.
  watch() {
    clearTimeout(this.#timer);
    this.#asking ??= this.#ask().finally(() => {
      this.#asking = null;
      if (!this.ready) this.#timer = setTimeout(() => this.watch(), POLL);
    });
    return this.#asking;
  }

  async #ask() {
    let health = { state: "gone" };
    try {
      const answer = await fetch("readyz", { cache: "no-store" });
      const said = await answer.json();
      // What the server says of itself changes with its state: the model is known when it is loaded.
      if (said.state !== this.health.state) this.info = await (await fetch("v1/info", { cache: "no-store" })).json();
      health = said;
    } catch {
      // No answer, or none of this service.
    }
    if (health.state === this.health.state) return;
    this.health = health;
    this.dispatchEvent(new Event("health"));
  }

  // The answer for `file`, or a Problem. watcher: {sending(share), working()}; signal aborts.
  send(file, fields, watcher, signal) {
    return new Promise((resolve, reject) => {
      const body = new FormData();
      body.append("image", file, file.name);
      for (const [name, value] of Object.entries(fields)) body.append(name, value);
      const request = new XMLHttpRequest();
      const key = this.key;
      let sent = 0;
      request.open("POST", "v1/remove");
      request.responseType = "blob";
      request.setRequestHeader("Accept", "image/png");
      if (key) request.setRequestHeader("X-Api-Key", key);
      request.upload.onprogress = (event) => watcher.sending(event.loaded / event.total);
      request.upload.onload = () => { sent = performance.now(); watcher.working(); };
      request.onload = () => {
        if (request.status === 200) resolve(answer(request, performance.now() - sent));
        else problem(request).then((error) => {
          if (error.kind === "key") this.#refuse(key);
          reject(error);
        });
      };
      request.onerror = () => reject(new Problem("gone", "the connection broke"));
      request.onabort = () => reject(new Problem("dropped", "dropped"));
      signal.addEventListener("abort", () => request.abort());
      request.send(body);
    });
  }

  // Forgets a key that was refused, unless another was given meanwhile.
  #refuse(key) {
    this.#refused = true;
    if (this.key === key) this.key = "";
  }
}

function answer(request, milliseconds) {
  const number = (name) => {
    const text = request.getResponseHeader(name);
    return text === null || Number.isNaN(Number(text)) ? null : Number(text);
  };
  const found = request.getResponseHeader("X-Foreground-Found");
  return {
    blob: request.response,
    width: number("X-Width"),
    height: number("X-Height"),
    share: number("X-Foreground-Share"),
    uncertainty: number("X-Uncertainty-Score"),
    found: found === null ? null : found === "true",
    seconds: milliseconds / 1000,
  };
}

async function problem(request) {
  let said = {};
  try {
    said = JSON.parse(await request.response.text()).error ?? {};
  } catch {
    // Not one of this service's errors: the status has to do.
  }
  const text = said.message ?? `the server answered ${request.status}`;
  if (request.status === 401) return new Problem("key", text);
  if (request.status === 503) {
    const seconds = Number(request.getResponseHeader("Retry-After")) || 2;
    return new Problem(said.code === "not_ready" ? "unready" : "busy", text, Math.ceil(seconds));
  }
  return new Problem("refused", request.status >= 500 && said.id ? `${text} (request ${said.id})` : text);
}
