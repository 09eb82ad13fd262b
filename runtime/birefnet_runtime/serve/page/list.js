// The list of pictures: thumbnail, name, state, progress, retry and remove.

import * as words from "./words.js";

// Pixels of a thumbnail's longer side, twice what is shown for fine screens.
const THUMB = 112;

// One picture is decoded at a time: twenty at once would take gigabytes.
let turn = Promise.resolve();

export class List {
  #rows = new Map();
  #root;
  #act;

  // act: {select(item), retry(item), remove(item)}
  constructor(root, act) {
    this.#root = root;
    this.#act = act;
  }

  // The rows of these items, in their order.
  show(items, selected) {
    for (const [item, row] of this.#rows) {
      if (items.includes(item)) continue;
      row.root.remove();
      this.#rows.delete(item);
    }
    for (const item of items) {
      if (this.#rows.has(item)) continue;
      const row = this.#make(item);
      this.#rows.set(item, row);
      this.#root.append(row.root);
      this.update(item);
    }
    this.mark(selected);
  }

  mark(selected) {
    for (const [item, row] of this.#rows) {
      if (item === selected) row.select.setAttribute("aria-current", "true");
      else row.select.removeAttribute("aria-current");
    }
  }

  focus(item) { this.#rows.get(item)?.select.focus(); }

  reveal(item) { this.#rows.get(item)?.root.scrollIntoView({ block: "nearest", inline: "nearest" }); }

  update(item) {
    const row = this.#rows.get(item);
    if (!row) return;
    row.root.dataset.state = item.state;
    row.state.textContent = words.state(item);
    row.retry.hidden = item.state !== "failed";
    row.bar.hidden = item.state !== "sending" && item.state !== "working";
    if (item.state === "sending") row.bar.value = item.progress;
    else row.bar.removeAttribute("value");
    if (item.state === "done" && !row.drawn) this.#draw(row, item.answer.blob);
  }

  #make(item) {
    const root = document.createElement("li");
    const select = make("button", "pick");
    const canvas = make("canvas", "thumb");
    const text = make("span", "text");
    const name = make("span", "name", item.name);
    const state = make("span", "state");
    const bar = make("progress", "progress");
    const retry = make("button", "retry", "Try again");
    const remove = make("button", "remove", "×");
    canvas.width = canvas.height = 1;
    canvas.setAttribute("aria-hidden", "true");
    bar.max = 1;
    bar.setAttribute("aria-label", `Progress of ${item.name}`);
    retry.setAttribute("aria-label", `Try ${item.name} again`);
    remove.setAttribute("aria-label", `Remove ${item.name}`);
    select.title = item.name;
    text.append(name, state);
    select.append(canvas, text);
    root.append(select, bar, retry, remove);
    select.onclick = () => this.#act.select(item);
    retry.onclick = () => this.#act.retry(item);
    remove.onclick = () => this.#act.remove(item);
    const row = { root, select, canvas, state, bar, retry, drawn: false };
    this.#draw(row, item.file);
    return row;
  }

  #draw(row, blob) {
    turn = turn.then(() => this.#scale(row, blob));
  }

  // Decodes to a small bitmap and lets the large one go.
  async #scale(row, blob) {
    if (!this.#root.contains(row.root) || row.drawn) return;
    try {
      const whole = await createImageBitmap(blob);
      const scale = Math.min(1, THUMB / Math.max(whole.width, whole.height));
      row.canvas.width = Math.max(1, Math.round(whole.width * scale));
      row.canvas.height = Math.max(1, Math.round(whole.height * scale));
      const pen = row.canvas.getContext("2d");
      pen.imageSmoothingQuality = "high";
      pen.drawImage(whole, 0, 0, row.canvas.width, row.canvas.height);
      whole.close();
      row.drawn = true;
    } catch {
      // A format that only the server reads: its result is drawn when it is there.
    }
  }
}

function make(tag, kind, text = "") {
  const element = document.createElement(tag);
  element.className = kind;
  element.textContent = text;
  if (tag === "button") element.type = "button";
  return element;
}
