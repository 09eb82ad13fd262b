// What the page says: sentences from states and numbers.

const UNITS = [[2 ** 30, "GB"], [2 ** 20, "MB"], [2 ** 10, "kB"]];

export function bytes(count) {
  const [unit, name] = UNITS.find(([size]) => count >= size) ?? [1, "bytes"];
  const value = count / unit;
  return `${value.toFixed(value < 10 && unit > 1 ? 1 : 0)} ${name}`;
}

export function percent(share) {
  return share > 0 && share < 0.01 ? "under 1 %" : `${Math.round(100 * share)} %`;
}

// The service's uncertainty is 0 where every soft pixel is all but decided, 1 where all are half
// and half: about 0.1 to 0.25 for pictures that are cut out well.
function edges(uncertainty) {
  if (uncertainty < 0.3) return "edges sure";
  return uncertainty < 0.5 ? "edges mostly sure" : "edges unsure";
}

export function score(answer) {
  if (answer.found === false) return "Nothing found: the model sees no subject in this picture";
  const parts = [];
  if (answer.share !== null) parts.push(`Foreground ${percent(answer.share)}`);
  if (answer.uncertainty !== null) parts.push(edges(answer.uncertainty));
  parts.push(`${answer.width} × ${answer.height}`);
  return parts.join(", ");
}

// One line for a picture in the list.
export function state(item) {
  switch (item.state) {
    case "waiting": return "waiting";
    case "sending": return `uploading ${Math.floor(100 * item.progress)}\u00a0%`;
    case "working": return "cutting out";
    case "busy": return `server busy, again in ${item.seconds}\u00a0s`;
    case "failed": return `failed: ${item.reason}`;
    default: return `${item.answer.found === false ? "nothing found" : "done"}, ${item.answer.seconds.toFixed(1)}\u00a0s`;
  }
}

export function tally(items) {
  const done = items.filter((item) => item.state === "done").length;
  const failed = items.filter((item) => item.state === "failed").length;
  return `${done} of ${items.length} done${failed ? `, ${failed} failed` : ""}`;
}

// A sentence for what /readyz says; null where there is nothing to say.
export function server(health) {
  const model = health.model ? ` ${health.model}` : "";
  switch (health.state) {
    case "ready": return null;
    case "loading": return `The server loads its model${model}. Pictures are cut out as soon as it is there.`;
    case "warming": return `The model${model} is loaded and makes its first run. Pictures are cut out in a moment.`;
    case "draining": return "The server is shutting down. Pictures wait here until it is back.";
    case "failed": return "The server could not load its model. Its log says why; start it again when that is mended.";
    case "gone": return "The server does not answer. Is it running? Pictures wait here, and the page keeps trying.";
    default: return "The server is not ready yet. Pictures wait here until it is.";
  }
}
