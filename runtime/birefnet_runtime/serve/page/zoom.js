// Zoom and pan of a picture in a view: numbers, pointers, wheel and keys; it draws nothing.

// Screen pixels per picture pixel, at most.
const LARGEST = 32;
const STEP = 1.25;
// CSS pixels an arrow key moves the picture.
const NUDGE = 40;
// What lies in the view and has pointers of its own.
const OTHERS = "button, [role=slider]";

// Fires "move" whenever x, y or scale changed. x, y: the picture's corner in the view; scale: CSS
// pixels per picture pixel.
export class Zoom extends EventTarget {
  x = 0;
  y = 0;
  scale = 1;
  fits = true;
  #view;
  #size = [1, 1];
  #pointers = new Map();

  constructor(view) {
    super();
    this.#view = view;
    view.addEventListener("pointerdown", (event) => this.#down(event));
    view.addEventListener("pointermove", (event) => this.#drag(event));
    for (const name of ["pointerup", "pointercancel"]) {
      view.addEventListener(name, (event) => this.#pointers.delete(event.pointerId));
    }
    view.addEventListener("wheel", (event) => this.#wheel(event), { passive: false });
    view.addEventListener("keydown", (event) => this.#press(event));
    view.addEventListener("dblclick", (event) => {
      if (event.target.closest(OTHERS)) return;
      if (this.fits) this.one(this.#at(event));
      else this.fit();
    });
    new ResizeObserver(() => this.#settle()).observe(view);
  }

  // Screen pixels per picture pixel, which is what is shown: 1 shows every pixel as one.
  get level() { return this.scale * devicePixelRatio; }
  get width() { return this.#size[0] * this.scale; }
  get height() { return this.#size[1] * this.scale; }

  // A new picture; one of the same size keeps where it is looked at.
  open(width, height) {
    if (width === this.#size[0] && height === this.#size[1]) return this.#settle();
    this.#size = [width, height];
    this.fit();
  }

  fit() {
    this.fits = true;
    this.#settle();
  }

  one(at) { this.to(1 / devicePixelRatio, at); }
  in(at) { this.to(this.scale * STEP, at); }
  out(at) { this.to(this.scale / STEP, at); }

  // To a scale; the point `at` of the view, [x, y], stays where it is.
  to(scale, at = this.#middle()) {
    const least = Math.min(this.#fitting(), 1 / devicePixelRatio) / 2;
    const next = Math.min(Math.max(scale, least), LARGEST / devicePixelRatio);
    const ratio = next / this.scale;
    this.fits = false;
    this.x = at[0] - (at[0] - this.x) * ratio;
    this.y = at[1] - (at[1] - this.y) * ratio;
    this.scale = next;
    this.#settle();
  }

  pan(right, down) {
    this.x += right;
    this.y += down;
    this.#settle();
  }

  #middle() { return [this.#view.clientWidth / 2, this.#view.clientHeight / 2]; }

  #fitting() {
    const [width, height] = this.#size;
    return Math.min(this.#view.clientWidth / width, this.#view.clientHeight / height, 4);
  }

  // Keeps the picture in the view: in the middle where it is smaller, over all of it elsewhere.
  #settle() {
    if (this.fits) this.scale = this.#fitting();
    const within = (corner, room, length) =>
      length <= room ? (room - length) / 2 : Math.min(0, Math.max(room - length, corner));
    this.x = within(this.x, this.#view.clientWidth, this.width);
    this.y = within(this.y, this.#view.clientHeight, this.height);
    this.dispatchEvent(new Event("move"));
  }

  #at(event) {
    const box = this.#view.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  }

  #down(event) {
    if (event.button !== 0 || event.target.closest(OTHERS)) return;
    this.#view.setPointerCapture(event.pointerId);
    this.#pointers.set(event.pointerId, this.#at(event));
  }

  #drag(event) {
    const before = this.#pointers.get(event.pointerId);
    if (!before) return;
    const now = this.#at(event);
    this.#pointers.set(event.pointerId, now);
    if (this.#pointers.size === 1) return this.pan(now[0] - before[0], now[1] - before[1]);
    for (const [id, other] of this.#pointers) {
      if (id === event.pointerId) continue;
      const apart = ([x, y]) => Math.hypot(x - other[0], y - other[1]);
      return this.to(this.scale * apart(now) / Math.max(1, apart(before)), other);
    }
  }

  #wheel(event) {
    event.preventDefault();
    // Lines and pages in pixels; a trackpad's pinch comes as a wheel with Ctrl and small steps.
    const pixels = event.deltaY * [1, 16, 400][event.deltaMode];
    this.to(this.scale * Math.exp(-pixels * (event.ctrlKey ? 0.01 : 0.002)), this.#at(event));
  }

  #press(event) {
    if (event.target !== this.#view || event.ctrlKey || event.metaKey || event.altKey) return;
    const acts = {
      "+": () => this.in(), "=": () => this.in(), "-": () => this.out(),
      0: () => this.fit(), 1: () => this.one(),
      ArrowLeft: () => this.pan(NUDGE, 0), ArrowRight: () => this.pan(-NUDGE, 0),
      ArrowUp: () => this.pan(0, NUDGE), ArrowDown: () => this.pan(0, -NUDGE),
    };
    if (!(event.key in acts)) return;
    event.preventDefault();
    acts[event.key]();
  }
}
