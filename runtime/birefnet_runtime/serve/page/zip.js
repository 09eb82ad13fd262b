// A ZIP archive of stored entries: pictures are compressed already.

const TABLE = Uint32Array.from({ length: 256 }, (_, index) => {
  let value = index;
  for (let bit = 0; bit < 8; bit++) value = value & 1 ? (value >>> 1) ^ 0xedb88320 : value >>> 1;
  return value;
});
// The format's own limit on sizes and offsets, without its 64-bit extension.
const MOST = 2 ** 32 - 1;
// Names are UTF-8.
const UTF8 = 0x0800;

export function crc32(bytes) {
  let value = 0xffffffff;
  for (let index = 0; index < bytes.length; index++) {
    value = TABLE[(value ^ bytes[index]) & 0xff] ^ (value >>> 8);
  }
  return (value ^ 0xffffffff) >>> 0;
}

// A Blob from [{name, blob}]; one entry at a time is in memory. RangeError past 4 GiB.
export async function zip(entries, now = new Date()) {
  const parts = [];
  const directory = [];
  let offset = 0;
  for (const { name, blob } of entries) {
    const title = new TextEncoder().encode(name);
    const fields = [UTF8, 0, ...clock(now), crc32(new Uint8Array(await blob.arrayBuffer())), blob.size, blob.size];
    const head = header([[4, 0x04034b50], [2, 20], ...shared(fields), [2, title.length], [2, 0]]);
    parts.push(head, title, blob);
    directory.push(header([
      [4, 0x02014b50], [2, 20], [2, 20], ...shared(fields), [2, title.length],
      [2, 0], [2, 0], [2, 0], [2, 0], [4, 0], [4, offset],
    ]), title);
    offset += head.length + title.length + blob.size;
    if (offset > MOST) throw new RangeError("More than 4 GB: download the pictures one by one.");
  }
  const length = directory.reduce((sum, part) => sum + part.length, 0);
  const end = header([
    [4, 0x06054b50], [2, 0], [2, 0], [2, entries.length], [2, entries.length],
    [4, length], [4, offset], [2, 0],
  ]);
  return new Blob([...parts, ...directory, end], { type: "application/zip" });
}

// Flags, method, time, date, CRC and both sizes, as both headers have them.
function shared(fields) {
  return fields.map((value, index) => [index < 4 ? 2 : 4, value]);
}

// Little-endian fields, [bytes, value] each.
function header(fields) {
  const bytes = new Uint8Array(fields.reduce((sum, [size]) => sum + size, 0));
  const view = new DataView(bytes.buffer);
  let at = 0;
  for (const [size, value] of fields) {
    if (size === 2) view.setUint16(at, value, true);
    else view.setUint32(at, value, true);
    at += size;
  }
  return bytes;
}

// Time and date as DOS wrote them, in steps of two seconds.
function clock(now) {
  const time = (now.getHours() << 11) | (now.getMinutes() << 5) | (now.getSeconds() >> 1);
  const date = ((now.getFullYear() - 1980) << 9) | ((now.getMonth() + 1) << 5) | now.getDate();
  return [time, date];
}
