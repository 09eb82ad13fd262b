// The page: its parts and what one tells the other.

import { Backdrop } from "./backdrop.js";
import { List } from "./list.js";
import { Queue } from "./queue.js";
import { saveAll, saveOne } from "./save.js";
import { Server } from "./server.js";
import { Stage } from "./stage.js";
import * as words from "./words.js";

const find = (id) => document.getElementById(id);
const server = new Server();
const queue = new Queue(server, () => ({ format: "png", edge: find("edge").value, foreground: find("foreground").value }));
const backdrop = new Backdrop();
const stage = new Stage(backdrop, (item) => queue.retry(item));
const list = new List(find("list"), {
  select: (item) => select(item),
  retry: (item) => queue.retry(item),
  remove: (item) => remove(item),
});

const done = () => queue.items.filter((item) => item.state === "done");
const say = (text) => { find("live").textContent = text; };

function select(item) {
  stage.show(item);
  list.mark(item);
  refresh();
}

function remove(item) {
  const at = queue.items.indexOf(item);
  queue.remove(item);
  const next = queue.items[Math.min(at, queue.items.length - 1)] ?? null;
  if (stage.item === item) select(next);
  // The button that had the focus is gone.
  if (next) list.focus(next);
  else find("pick").focus();
  say(`${item.name} removed`);
}

function add(files) {
  const pictures = [...files];
  if (pictures.length === 0) return;
  const [first] = queue.add(pictures);
  if (!stage.item) select(first);
  list.reveal(first);
  say(pictures.length === 1 ? `${first.name} added` : `${pictures.length} pictures added`);
}

// What depends on all pictures: counts, buttons, the title.
function refresh() {
  const ready = done().length;
  const total = queue.items.length;
  find("main").classList.toggle("empty", total === 0);
  find("tally").textContent = total ? words.tally(queue.items) : "";
  find("save").disabled = stage.item?.state !== "done";
  find("save-all").disabled = ready === 0;
  find("save-all").textContent = ready > 1 ? `Download all ${ready}` : "Download all";
  const open = queue.items.some((item) => item.state !== "done" && item.state !== "failed");
  document.title = open ? `${ready} of ${total} – Cut-out` : "Cut-out";
}

let saving = false;

async function save(act) {
  if (saving) return;
  saving = true;
  notice();
  say("Preparing the download");
  try {
    await act(find("kind").value);
    say("Downloaded");
  } catch (error) {
    notice(error.message);
  }
  saving = false;
}

// A line above everything; with `bar` a progress bar, with `button` one to try again at once.
function notice(text = "", { bar = false, button = false } = {}) {
  find("notice").hidden = !text;
  find("notice-text").textContent = text;
  find("notice-bar").hidden = !bar;
  find("notice-button").hidden = !button;
}

function askKey(text) {
  find("key-text").textContent = text || "Whoever runs the server has it. This tab keeps it until it is closed.";
  find("key").value = "";
  if (!find("key-dialog").open) find("key-dialog").showModal();
}

server.addEventListener("health", () => {
  const { state, model, device } = server.health;
  const known = { ready: "Ready", loading: "Loading", warming: "Warming up", draining: "Shutting down", failed: "Failed", gone: "Not reachable" };
  find("server").dataset.state = state;
  find("server-text").textContent = state === "ready" ? [model, device].filter(Boolean).join(" on ") : known[state] ?? "Not ready";
  notice(words.server(server.health) ?? "", { bar: state === "loading" || state === "warming", button: state === "gone" });
  const { max_bytes: most, licence } = server.info ?? {};
  find("limits").textContent = most ? `Up to ${words.bytes(most)} each.` : "";
  find("foot").textContent = `Pictures go to this server and nowhere else.${licence ? ` Model: ${model}, ${licence}.` : ""}`;
});

queue.addEventListener("count", () => {
  list.show(queue.items, stage.item);
  refresh();
});

queue.addEventListener("change", ({ detail: { item, before } }) => {
  list.update(item);
  if (item === stage.item) stage.update();
  if (item.state === before) return;
  refresh();
  if (item.state === "done") say(`${item.name}: ${words.score(item.answer)}`);
  if (item.state === "failed" || item.state === "busy") say(`${item.name}: ${words.state(item)}`);
});

queue.addEventListener("key", ({ detail }) => askKey(detail));

find("key-form").onsubmit = (event) => {
  event.preventDefault();
  server.key = find("key").value.trim();
  find("key-dialog").close();
};
find("key-cancel").onclick = () => find("key-dialog").close();
find("key-dialog").onclose = () => queue.unlock();

for (const id of ["drop", "add"]) find(id).onclick = () => find("files").click();
find("files").onchange = ({ target }) => {
  add(target.files);
  target.value = "";
};
find("clear").onclick = () => {
  queue.clear();
  select(null);
  find("pick").focus();
  say("All pictures removed");
};
find("again").onclick = () => queue.items.forEach((item) => queue.retry(item));
find("save").onclick = () => save((kind) => saveOne(stage.item, kind, backdrop));
find("save-all").onclick = () => save((kind) => saveAll(done(), kind, backdrop));
find("notice-button").onclick = () => server.watch();

backdrop.addEventListener("trouble", ({ detail }) => notice(detail));
backdrop.addEventListener("change", () => {
  const kind = find("kind");
  for (const option of kind.options) option.disabled = option.value !== "plain" && backdrop.transparent;
  if (backdrop.transparent) kind.value = "plain";
  else if (kind.value === "plain") kind.value = "image/png";
});

// Drop anywhere; the browser must never leave the page for a dropped file.
let inside = 0;
const carriesFiles = (event) => [...event.dataTransfer.types].includes("Files");
const over = (count) => {
  inside = Math.max(0, count);
  find("over").hidden = inside === 0;
};
addEventListener("dragenter", (event) => carriesFiles(event) && over(inside + 1));
addEventListener("dragleave", (event) => carriesFiles(event) && over(inside - 1));
addEventListener("dragover", (event) => event.preventDefault());
addEventListener("drop", (event) => {
  event.preventDefault();
  over(0);
  add(event.dataTransfer.files);
});
// A server that went away meanwhile is noticed when somebody looks.
document.addEventListener("visibilitychange", () => document.hidden || server.watch());
addEventListener("paste", (event) => add(event.clipboardData.files));

refresh();
server.watch();
