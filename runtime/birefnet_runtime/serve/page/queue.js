// The pictures in their order: what waits, what is under way, what came back.

import { Problem } from "./server.js";
import * as words from "./words.js";

// Requests at a time: one uploads while the other is cut out.
const SLOTS = 2;
// Broken connections to a server that lives, after which a picture counts as failed.
const BREAKS = 3;

// Fires "change" with the item, "count" when items come or go, and "key" when a key is missing or
// was refused. An item's state: waiting, sending, working, busy, done or failed.
export class Queue extends EventTarget {
  items = [];
  #server;
  #fields;
  #numbers = 0;
  #pause = 0;
  #keyless = false;

  constructor(server, fields) {
    super();
    this.#server = server;
    this.#fields = fields;
    server.addEventListener("health", () => this.run());
  }

  add(files) {
    const added = Array.from(files, (file) => ({
      id: ++this.#numbers, file, name: file.name || "pasted.png", state: "waiting",
      progress: 0, reason: "", seconds: 0, breaks: 0, answer: null, control: null,
    }));
    this.items.push(...added);
    this.dispatchEvent(new Event("count"));
    this.#keyless = false;
    this.run();
    return added;
  }

  remove(item) {
    this.items = this.items.filter((other) => other !== item);
    item.control?.abort();
    item.answer = null;
    this.dispatchEvent(new Event("count"));
    this.run();
  }

  clear() {
    for (const item of [...this.items]) this.remove(item);
  }

  retry(item) {
    item.control?.abort();
    item.control = null;
    item.breaks = 0;
    item.answer = null;
    this.#set(item, "waiting");
    this.#keyless = false;
    this.run();
  }

  // Goes on after a key was given, or was not: what was refused a key then fails.
  unlock() {
    this.#keyless = false;
    for (const item of this.items.filter((one) => one.state === "waiting" && this.#server.needsKey)) {
      this.#fail(item, "no API key");
    }
    this.run();
  }

  // Starts what can be started.
  run() {
    if (!this.#server.ready || this.#pause || this.#keyless) return;
    for (const item of this.items.filter((one) => one.state === "waiting")) {
      if (this.items.filter((one) => one.control).length >= SLOTS) return;
      if (this.#server.needsKey) return this.#askKey("");
      this.#start(item);
    }
  }

  async #start(item) {
    const most = this.#server.info?.max_bytes;
    if (most && item.file.size > most) {
      return this.#fail(item, `too large: ${words.bytes(item.file.size)}, this server takes ${words.bytes(most)}`);
    }
    const control = new AbortController();
    item.control = control;
    item.progress = 0;
    this.#set(item, "sending");
    try {
      const answer = await this.#server.send(item.file, this.#fields(), {
        sending: (share) => { item.progress = share; this.#set(item, "sending"); },
        working: () => this.#set(item, "working"),
      }, control.signal);
      item.control = null;
      item.answer = answer;
      this.#set(item, "done");
    } catch (error) {
      if (item.control !== control) return;
      item.control = null;
      await this.#mend(item, error);
    }
    this.run();
  }

  // Puts the picture where its problem can be mended.
  async #mend(item, error) {
    if (!(error instanceof Problem)) return this.#fail(item, String(error));
    if (error.kind === "dropped") return;
    if (error.kind === "refused") return this.#fail(item, error.message);
    if (error.kind === "busy") return this.#wait(item, error.seconds);
    if (error.kind === "gone") {
      // The same event tells of a file that cannot be read any more.
      if (!(await readable(item.file))) return this.#fail(item, "the file cannot be read: it changed, is gone, or is a folder");
      this.#set(item, "waiting");
      await this.#server.watch();
      if (this.#server.ready && ++item.breaks >= BREAKS) return this.#fail(item, error.message);
      return;
    }
    this.#set(item, "waiting");
    if (error.kind === "key") {
      if (this.#server.needsKey) this.#askKey(error.message);
      return;
    }
    await this.#server.watch();
    if (this.#server.ready) this.#wait(item, error.seconds);
  }

  // A busy server is left alone for as long as it asks; a countdown shows that.
  #wait(item, seconds) {
    item.seconds = seconds;
    this.#set(item, "busy");
    this.#pause += 1;
    const timer = setInterval(() => {
      item.seconds -= 1;
      if (item.seconds > 0 && item.state === "busy") return this.#set(item, "busy");
      clearInterval(timer);
      this.#pause -= 1;
      if (item.state === "busy") this.#set(item, "waiting");
      this.run();
    }, 1000);
  }

  #askKey(text) {
    if (this.#keyless) return;
    this.#keyless = true;
    this.dispatchEvent(new CustomEvent("key", { detail: text }));
  }

  #fail(item, reason) {
    item.reason = reason;
    this.#set(item, "failed");
  }

  #set(item, state) {
    const before = item.state;
    item.state = state;
    if (this.items.includes(item)) this.dispatchEvent(new CustomEvent("change", { detail: { item, before } }));
  }
}

async function readable(file) {
  try {
    await file.slice(0, 1).arrayBuffer();
    return true;
  } catch {
    return false;
  }
}
