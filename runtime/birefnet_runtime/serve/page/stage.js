// The stage: one picture, its original on the left of a divider and its result on the right.

import { Divider } from "./divider.js";
import * as words from "./words.js";
import { Zoom } from "./zoom.js";

// Screen pixels per picture pixel from which pixels are shown as squares.
const SQUARES = 2;
// CSS pixels beside the divider that a label needs.
const LABEL = 96;

const find = (id) => document.getElementById(id);

export class Stage {
  item = null;
  #view = find("view");
  #scene = find("scene");
  #original = find("original");
  #result = find("result");
  #behind = find("behind");
  #left = find("label-left");
  #right = find("label-right");
  #zoom = new Zoom(this.#view);
  #divider = new Divider(find("divider"), this.#view);
  #backdrop;
  #urls = [];
  #shown = null;
  #blind = false;

  constructor(backdrop, retry) {
    this.#backdrop = backdrop;
    this.#zoom.addEventListener("move", () => this.#layout());
    this.#divider.addEventListener("move", () => this.#layout());
    backdrop.addEventListener("change", () => this.paint());
    find("zoom-in").onclick = () => this.#zoom.in();
    find("zoom-out").onclick = () => this.#zoom.out();
    find("zoom-fit").onclick = () => this.#zoom.fit();
    find("zoom-one").onclick = () => this.#zoom.one();
    find("wait-retry").onclick = () => retry(this.item);
    for (const image of [this.#original, this.#result]) image.draggable = false;
    this.#original.onload = () => {
      this.#original.hidden = false;
      if (!this.item?.answer) this.#zoom.open(this.#original.naturalWidth, this.#original.naturalHeight);
      this.paint();
      this.#layout();
    };
    this.#original.onerror = () => {
      this.#blind = true;
      this.#tell();
    };
    this.#result.onload = () => {
      this.#result.hidden = false;
      this.#zoom.open(this.#result.naturalWidth, this.#result.naturalHeight);
      this.paint();
      this.#layout();
    };
  }

  // Shows a picture, or none for null; its object URLs live as long as it is shown.
  show(item) {
    if (item !== this.item) {
      this.#forget();
      this.item = item;
      if (item) this.#load(this.#original, item.file, item.name);
    }
    this.update();
  }

  // The state of the picture that is shown: its result when it is there, words until then.
  update() {
    const item = this.item;
    const answer = item?.answer ?? null;
    if (answer !== this.#shown) {
      this.#shown = answer;
      this.#result.hidden = true;
      this.#result.removeAttribute("src");
      if (answer) this.#load(this.#result, answer.blob, `${item.name}, cut out`);
    }
    find("wait").hidden = !item || item.state === "done";
    this.#tell();
    if (!item) return;
    const text = words.state(item);
    find("wait-text").textContent = text[0].toUpperCase() + text.slice(1);
    const bar = find("wait-bar");
    bar.hidden = item.state !== "sending" && item.state !== "working";
    if (item.state === "sending") bar.value = item.progress;
    else bar.removeAttribute("value");
    find("wait-retry").hidden = item.state !== "failed";
    this.#layout();
  }

  // The background behind the result, as it is chosen.
  paint() {
    if (!this.#result.hidden) this.#backdrop.show(this.#behind, this.#original, this.#result);
  }

  #tell() {
    const answer = this.item?.answer;
    const blind = this.#blind ? ". This browser cannot show the original." : "";
    find("score").textContent = answer ? `${words.score(answer)}${blind}` : "";
  }

  #load(image, blob, name) {
    const url = URL.createObjectURL(blob);
    this.#urls.push(url);
    image.alt = name;
    image.src = url;
  }

  #forget() {
    for (const image of [this.#original, this.#result]) {
      image.hidden = true;
      image.removeAttribute("src");
    }
    for (const url of this.#urls) URL.revokeObjectURL(url);
    this.#urls = [];
    this.#shown = null;
    this.#blind = false;
    this.#layout();
  }

  #layout() {
    const zoom = this.#zoom;
    const both = !this.#original.hidden && !this.#result.hidden;
    const left = Math.max(0, zoom.x);
    const right = Math.min(this.#view.clientWidth, zoom.x + zoom.width);
    this.#divider.hidden = !both;
    const at = this.#divider.place(left, right);
    this.#scene.style.width = `${zoom.width}px`;
    this.#scene.style.height = `${zoom.height}px`;
    this.#scene.style.transform = `translate(${zoom.x}px, ${zoom.y}px)`;
    this.#scene.classList.toggle("squares", zoom.level >= SQUARES && !zoom.fits);
    const cut = both ? at - zoom.x : 0;
    this.#original.style.clipPath = both ? `inset(0 ${zoom.width - cut}px 0 0)` : "none";
    this.#result.style.clipPath = both ? `inset(0 0 0 ${cut}px)` : "none";
    this.#behind.style.clipPath = this.#result.style.clipPath;
    this.#behind.hidden = this.#result.hidden;
    this.#view.classList.toggle("zoomed", !zoom.fits);
    for (const label of [this.#left, this.#right]) label.style.top = `${Math.max(0, zoom.y)}px`;
    this.#left.style.left = `${left}px`;
    this.#right.style.right = `${this.#view.clientWidth - right}px`;
    this.#left.hidden = !both || at - left < LABEL;
    this.#right.hidden = this.#result.hidden || right - at < LABEL;
    const empty = this.#original.hidden && this.#result.hidden;
    for (const button of document.querySelectorAll(".zoom button")) button.disabled = empty;
    find("zoom-value").textContent = empty ? "" : `${Math.round(100 * zoom.level)} %`;
    find("zoom-fit").setAttribute("aria-pressed", String(zoom.fits));
    find("zoom-one").setAttribute("aria-pressed", String(!zoom.fits && Math.abs(zoom.level - 1) < 0.005));
  }
}
