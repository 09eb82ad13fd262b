// The divider between original and result: a slider for pointer, touch and keys.

const STEPS = {
  ArrowLeft: -0.02, ArrowDown: -0.02, ArrowRight: 0.02, ArrowUp: 0.02,
  PageDown: -0.1, PageUp: 0.1, Home: -1, End: 1,
};

// Fires "move" when its share changed: how much of the visible width is the original, 0..1.
export class Divider extends EventTarget {
  share = 0.5;
  #root;
  #view;
  #span = [0, 1];

  constructor(root, view) {
    super();
    this.#root = root;
    this.#view = view;
    root.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      root.setPointerCapture(event.pointerId);
      event.preventDefault();
      root.focus({ preventScroll: true });
    });
    root.addEventListener("pointermove", (event) => {
      if (!root.hasPointerCapture(event.pointerId)) return;
      const at = event.clientX - view.getBoundingClientRect().left;
      this.#set((at - this.#span[0]) / Math.max(1, this.#span[1] - this.#span[0]));
    });
    root.addEventListener("keydown", (event) => {
      if (!(event.key in STEPS)) return;
      event.preventDefault();
      this.#set(this.share + STEPS[event.key] * (event.shiftKey ? 5 : 1));
    });
  }

  set hidden(value) { this.#root.hidden = value; }
  get hidden() { return this.#root.hidden; }

  // Where it stands, in the view's pixels, when the picture is seen from `left` to `right`.
  place(left, right) {
    this.#span = [left, right];
    const at = left + this.share * (right - left);
    this.#root.style.transform = `translateX(${at}px)`;
    const shown = Math.round(100 * this.share);
    this.#root.setAttribute("aria-valuenow", String(shown));
    this.#root.setAttribute("aria-valuetext", `${shown} % original, ${100 - shown} % result`);
    return at;
  }

  #set(share) {
    this.share = Math.min(1, Math.max(0, share));
    this.dispatchEvent(new Event("move"));
  }
}
