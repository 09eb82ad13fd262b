// Results as files: as the server made them, or composed with the chosen background.

import { zip } from "./zip.js";

const SUFFIX = { plain: ".png", "image/png": ".png", "image/jpeg": ".jpg", "image/webp": ".webp" };
// Of JPEG and WebP, 0..1.
const QUALITY = 0.92;
// Milliseconds after which a download surely has begun and its URL may go.
const BEGUN = 60_000;

export async function saveOne(item, kind, backdrop) {
  hand(await made(item, kind, backdrop), named(item, kind, new Set()));
}

// One archive with every result.
export async function saveAll(items, kind, backdrop) {
  const taken = new Set();
  const entries = [];
  for (const item of items) {
    entries.push({ name: named(item, kind, taken), blob: await made(item, kind, backdrop) });
  }
  hand(await zip(entries), "cutouts.zip");
}

// The file of one result: the server's bytes, or every pixel composed on the background.
async function made(item, kind, backdrop) {
  if (kind === "plain") return item.answer.blob;
  const canvas = document.createElement("canvas");
  const result = await createImageBitmap(item.answer.blob);
  const original = backdrop.needsOriginal ? await picture(item) : null;
  [canvas.width, canvas.height] = [result.width, result.height];
  backdrop.paint(canvas, original, result);
  canvas.getContext("2d").drawImage(result, 0, 0);
  for (const bitmap of [original, result]) bitmap?.close();
  const blob = await new Promise((done) => canvas.toBlob(done, kind, QUALITY));
  if (blob?.type !== kind) throw new Error(`This browser cannot write ${item.name} as ${SUFFIX[kind].slice(1)}: choose PNG.`);
  return blob;
}

async function picture(item) {
  try {
    return await createImageBitmap(item.file);
  } catch {
    throw new Error(`This browser cannot show ${item.name}, so it cannot blur it: choose another background.`);
  }
}

// photo.jpg becomes photo-cutout.png, the second of that name photo-cutout-2.png.
function named(item, kind, taken) {
  const stem = `${item.name.replace(/\.[^.]*$/, "") || "picture"}-cutout`;
  let name = stem + SUFFIX[kind];
  for (let count = 2; taken.has(name); count++) name = `${stem}-${count}${SUFFIX[kind]}`;
  taken.add(name);
  return name;
}

function hand(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), BEGUN);
}
