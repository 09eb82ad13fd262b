// What lies behind the result: nothing (checkerboard), a colour, a picture, or the blurred original.

// Pixels of the longer side at which the blurred original is made; it has no detail to lose.
const BLURRED = 512;
// The longer side of the finest level of the blur; it says how far out of focus it is.
const FINEST = 32;
// The longer side of what is painted for the stage; the file gets every pixel.
const SHOWN = 1600;

const find = (id) => document.getElementById(id);

// Fires "change" when another background is chosen.
export class Backdrop extends EventTarget {
  #kind = "none";
  #picture = null;
  #radios = [...document.querySelectorAll("input[name=background]")];

  constructor() {
    super();
    for (const radio of this.#radios) radio.onchange = () => this.#choose(radio.value);
    // A second click on a chosen picture picks another.
    this.#radio("picture").onclick = () => { if (this.#kind === "picture" || !this.#picture) find("picture-file").click(); };
    find("picture-file").onchange = (event) => this.#open(event.target);
    find("colour").oninput = () => this.#choose("colour");
    find("colour").onclick = () => this.#choose("colour");
  }

  get transparent() { return this.#kind === "none"; }
  get needsOriginal() { return this.#kind === "blur"; }

  // Behind the picture on the stage: as CSS, or painted small on `canvas` and stretched.
  show(canvas, original, result) {
    const blind = this.#kind === "blur" && !original.naturalWidth;
    if (blind && original.complete) this.#trouble(`This browser cannot show ${original.alt}, so it cannot blur it.`);
    canvas.classList.toggle("checker", this.#kind === "none" || blind);
    canvas.style.backgroundColor = this.#colour ?? "";
    canvas.width = canvas.height = 1;
    if (blind || (this.#kind !== "blur" && this.#kind !== "picture")) return;
    [canvas.width, canvas.height] = fitted(result.naturalWidth, result.naturalHeight, SHOWN);
    this.paint(canvas, original, result);
  }

  // Fills `canvas` with the background of this picture; both are images or bitmaps.
  paint(canvas, original, result) {
    const pen = canvas.getContext("2d");
    pen.imageSmoothingQuality = "high";
    if (this.#kind === "blur") blur(pen, original, result);
    else if (this.#kind === "picture") cover(pen, this.#picture);
    else if (this.#colour) {
      pen.fillStyle = this.#colour;
      pen.fillRect(0, 0, canvas.width, canvas.height);
    }
  }

  get #colour() {
    if (this.#kind === "colour") return find("colour").value;
    return this.#kind.startsWith("#") ? this.#kind : null;
  }

  #radio(value) { return this.#radios.find((radio) => radio.value === value); }

  #choose(kind) {
    // Without a picture yet, what was chosen stays until one is picked.
    this.#radio(kind === "picture" && !this.#picture ? this.#kind : kind).checked = true;
    if (kind === "picture" && !this.#picture) return;
    this.#kind = kind;
    this.dispatchEvent(new Event("change"));
  }

  async #open(input) {
    const [file] = input.files;
    input.value = "";
    if (!file) return;
    try {
      const picture = await createImageBitmap(file);
      this.#picture?.close();
      this.#picture = picture;
    } catch {
      return this.#trouble(`${file.name} is no picture that this browser can show.`);
    }
    const swatch = find("picture-swatch");
    swatch.width = swatch.height = 48;
    cover(swatch.getContext("2d"), this.#picture);
    this.#choose("picture");
  }

  #trouble(text) { this.dispatchEvent(new CustomEvent("trouble", { detail: text })); }
}

// The picture scaled to cover all, cropped in the middle.
function cover(pen, picture) {
  const { width, height } = pen.canvas;
  const scale = Math.max(width / picture.width, height / picture.height);
  const [wide, high] = [picture.width * scale, picture.height * scale];
  pen.drawImage(picture, (width - wide) / 2, (height - high) / 2, wide, high);
}

// The original without its subject, out of focus: coarse levels first, finer ones over them, so that
// each level fills the hole that the finer ones leave where the subject was.
function blur(pen, original, result) {
  const { width, height } = pen.canvas;
  let level = sheet(...fitted(width, height, BLURRED), original);
  level.globalCompositeOperation = "destination-out";
  level.drawImage(result, 0, 0, level.canvas.width, level.canvas.height);
  const levels = [];
  while (Math.max(level.canvas.width, level.canvas.height) > 1) {
    const half = (length) => Math.max(1, Math.round(length / 2));
    level = sheet(half(level.canvas.width), half(level.canvas.height), level.canvas);
    if (Math.max(level.canvas.width, level.canvas.height) <= FINEST) levels.unshift(level.canvas);
  }
  const [red, green, blue] = level.getImageData(0, 0, 1, 1).data;
  // Painted small and stretched once: the steps of eight bits then do not show as bands.
  const soft = sheet(...fitted(width, height, BLURRED));
  soft.fillStyle = `rgb(${red} ${green} ${blue})`;
  soft.fillRect(0, 0, soft.canvas.width, soft.canvas.height);
  for (const one of levels) soft.drawImage(one, 0, 0, soft.canvas.width, soft.canvas.height);
  pen.drawImage(soft.canvas, 0, 0, width, height);
}

// A size scaled down so that its longer side is at most `most`.
function fitted(width, height, most) {
  const scale = Math.min(1, most / Math.max(width, height));
  return [width, height].map((length) => Math.max(1, Math.round(length * scale)));
}

function sheet(width, height, source = null) {
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = height;
  const pen = canvas.getContext("2d");
  pen.imageSmoothingQuality = "high";
  if (source) pen.drawImage(source, 0, 0, width, height);
  return pen;
}
