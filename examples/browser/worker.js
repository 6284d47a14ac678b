// Loads the models and restores photos with them, tile by tile.
//
// From the page: {load: models, threads, webgpu}, {restore: model, id, width, height,
// pixels}, {cancel: id}. To the page: {ready: names, missing: files}, {id, rows, top},
// {id, done, of, seconds}, {id, finished, accelerator}, {id, failed}, {failed}.
//
// It is no module: LiteRT's loader needs importScripts.
"use strict";

importScripts("tiles.js");

const LITERT = new URL("vendor/litert/", self.location.href).href;
const files = new Map();  // model's name to its file, so that no network is needed later
let runtime, webgpu, compiled = null;
let wanted = null;  // id of the photo to restore
let work = Promise.resolve();

self.onmessage = ({data}) => {
  if ("cancel" in data) {
    if (wanted === data.cancel) wanted = null;
    return;
  }
  if ("restore" in data) wanted = data.id;
  // One after the other: a cancelled photo ends with its tile.
  work = work.then(() => data.load ? load(data) : restore(data)).catch(error =>
    self.postMessage({id: data.id, failed: String(error?.message ?? error)}));
};

async function load({load: models, ...options}) {
  const missing = [];
  await Promise.all(models.map(async model => {
    const response = await fetch(model.file).catch(() => null);
    if (!response?.ok) return missing.push(model.file);
    files.set(model.name, new Uint8Array(await response.arrayBuffer()));
  }));
  webgpu = options.webgpu;
  runtime = await import(LITERT + "index.js");
  // Where the loader, which looks beside this file, finds the rest.
  self.Module = {
    locateFile: name => LITERT + "wasm/" + name,
    mainScriptUrlOrBlob: LITERT + "wasm/litert_wasm_threaded_internal.js",
  };
  await runtime.loadLiteRt(LITERT + "wasm/",
    webgpu ? {jspi: true} : {threads: options.threads});
  self.postMessage({ready: [...files.keys()], missing});
}

// The compiled model; only one at a time is kept, to save memory.
async function compile(model) {
  if (compiled?.name === model.name) return compiled;
  compiled?.network.delete();
  compiled = null;
  // WebGPU refuses a file with an operator that it has not.
  const tried = webgpu && model.webgpu ? ["webgpu", "wasm"] : ["wasm"];
  for (const accelerator of tried) {
    try {
      const network =
        await runtime.loadAndCompile(files.get(model.name).slice(), {accelerator});
      compiled = {name: model.name, network, accelerator};
      return compiled;
    } catch (error) {
      if (accelerator === "wasm") throw error;
    }
  }
}

async function restore({restore: model, id, width, height, pixels}) {
  if (wanted !== id) return;
  const {network, accelerator} = await compile(model);
  const [tileHeight, tileWidth] = model.tile;
  const tops = starts(height, tileHeight, model.overlap);
  const lefts = starts(width, tileWidth, model.overlap);
  const fades = [fade(tileHeight, model.overlap), fade(tileWidth, model.overlap)];
  const weights = [sums(tops, fades[0]), sums(lefts, fades[1])];
  const photo = {width, height, values: new Uint8ClampedArray(pixels)};
  // Weighted sums of the rows from the present tiles' top on.
  const band = new Float32Array(tileHeight * (lefts.at(-1) + tileWidth) * 3);
  let done = 0;
  for (const [row, top] of tops.entries()) {
    for (const left of lefts) {
      const start = performance.now();
      const tile = await run(network, crop(photo, top, left, model.tile), model.tile);
      add(band, tile, left, fades, band.length / tileHeight / 3);
      done += 1;
      const seconds = (performance.now() - start) / 1000;
      self.postMessage({id, done, of: tops.length * lefts.length, seconds});
      await new Promise(resolve => setTimeout(resolve));  // reads messages
      if (wanted !== id) return;
    }
    const next = Math.min(tops[row + 1] ?? height, height);
    const rows = divide(band, photo, top, next, weights);
    self.postMessage({id, rows, top}, [rows.buffer]);
    const shift = (next - top) * band.length / tileHeight;
    band.copyWithin(0, shift);
    band.fill(0, band.length - shift);
  }
  wanted = null;
  self.postMessage({id, finished: true, accelerator});
}

// Sums of the weights of all tiles along an axis.
function sums(begins, weights) {
  const total = new Float32Array(begins.at(-1) + weights.length);
  for (const begin of begins) {
    weights.forEach((weight, index) => { total[begin + index] += weight; });
  }
  return total;
}

// The values of a tile in [0, 1], row by row, RGB.
function crop({width, height, values}, top, left, [tileHeight, tileWidth]) {
  const tile = new Float32Array(tileHeight * tileWidth * 3);
  let target = 0;
  for (let y = 0; y < tileHeight; y++) {
    const row = mirrored(top + y, height) * width;
    for (let x = 0; x < tileWidth; x++) {
      const source = 4 * (row + mirrored(left + x, width));
      for (let channel = 0; channel < 3; channel++) {
        tile[target++] = values[source + channel] / 255;
      }
    }
  }
  return tile;
}

async function run(network, tile, [tileHeight, tileWidth]) {
  const input = new runtime.Tensor(tile, [1, tileHeight, tileWidth, 3]);
  let outputs = [];
  try {
    outputs = await network.run(input);
    const restored = Float32Array.from(await outputs[0].data());
    check(tile, restored);
    return restored;
  } finally {
    input.delete();
    outputs.forEach(output => output.delete());
  }
}

// Where memory is short, the runtime may give zeros without an error. A restored tile
// is about as bright as the blurred one.
function check(tile, restored) {
  const [before, after] = [tile, restored].map(values =>
    values.reduce((sum, value) => sum + value) / values.length);
  if (!(Math.abs(after - before) < before / 2 + 0.02)) {
    throw new Error("no image for lack of memory");
  }
}

// Adds a weighted tile to the band.
function add(band, tile, left, [rowFade, columnFade], bandWidth) {
  let source = 0;
  for (let y = 0; y < rowFade.length; y++) {
    let target = 3 * (y * bandWidth + left);
    for (let x = 0; x < columnFade.length; x++) {
      const weight = rowFade[y] * columnFade[x];
      for (let channel = 0; channel < 3; channel++) {
        band[target++] += weight * tile[source++];
      }
    }
  }
}

// Finished rows of the band as RGBA; they begin with the row `top`.
function divide(band, {width}, top, next, [rowWeights, columnWeights]) {
  const rows = new Uint8ClampedArray(4 * width * (next - top));
  let target = 0;
  for (let y = top; y < next; y++) {
    let source = 3 * (y - top) * columnWeights.length;
    for (let x = 0; x < width; x++) {
      const scale = 255 / (rowWeights[y] * columnWeights[x]);
      for (let channel = 0; channel < 3; channel++) {
        rows[target++] = scale * band[source++];
      }
      rows[target++] = 255;
    }
  }
  return rows;
}
