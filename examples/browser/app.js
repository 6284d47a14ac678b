// The page: a photo in, a slider between before and after, a PNG out. worker.js does
// the work.
"use strict";

const SIDES = [2560, 1600, 1024];  // longer sides of the smaller copies on offer
const MANY_TILES = 60;  // from here on a smaller copy is chosen first
const MAX_MEGAPIXELS = 16;  // what canvases of phones hold
const MAX_OPENED_MEGAPIXELS = 200;
const RUNTIME_BYTES = 9.8e6;

const $ = id => document.getElementById(id);
let models = [], ready = [];  // of models.json; the names of those that are loaded
let worker = null;
let photo = null;  // {image, name, width, height}
let opening = null;  // the file that is being decoded
let job = null;  // the photo that is being restored
let jobs = 0;
const pace = {};  // seconds per tile by model, as measured here

main().catch(error => say(error.message, "error"));

async function main() {
  listen();
  const problem = missingPart();
  if (problem) throw new Error(problem);
  const response = await fetch("models.json").catch(() => null);
  if (!response?.ok) {
    throw new Error("The file models.json is missing: build the page with build.py.");
  }
  models = await response.json();
  models.forEach(addModel);
  await load();
}

// A sentence on what the browser lacks, or nothing.
function missingPart() {
  if (location.protocol === "file:") {
    return "Browsers run no networks in pages opened as files: serve the folder with " +
      "“python -m http.server” and open http://localhost:8000.";
  }
  // A function whose body is i32.const 0, i8x16.splat, drop.
  const simd = [0, 97, 115, 109, 1, 0, 0, 0, 1, 4, 1, 96, 0, 0, 3, 2, 1, 0, 10, 9, 1, 7,
    0, 65, 0, 253, 15, 26, 11];
  if (!self.WebAssembly?.validate(new Uint8Array(simd))) {
    return "This browser has no WebAssembly with SIMD, which the network needs: use " +
      "a present Chrome, Edge, Firefox or Safari.";
  }
}

function addModel(model, index) {
  const label = document.createElement("label");
  const input = document.createElement("input");
  Object.assign(input, {type: "radio", name: "model", value: model.name});
  input.checked = index === 0;
  input.addEventListener("change", refresh);
  const title = document.createElement("strong");
  title.textContent = model.title;
  const note = document.createElement("span");
  note.textContent = `${model.note}, ${(model.bytes / 1e6).toFixed(0)} MB`;
  label.append(input, title, note);
  $("models").append(label);
}

// Starts the worker, which fetches all that is needed from now on.
function load() {
  say(idleNote());
  worker = new Worker("worker.js");
  worker.onerror = event => {
    event.preventDefault();
    fail(event.message ?? "worker.js is missing");
  };
  wantsGpu().then(webgpu => worker.postMessage(
    {load: models, threads: self.crossOriginIsolated, webgpu}));
  return new Promise(resolve => {
    worker.onmessage = ({data}) => {
      if (data.ready) {
        loaded(data);
        resolve();
      } else if (data.id === undefined) {
        fail(data.failed);
      } else if (data.id === job?.id) {
        progress(data);
      }
    };
  });
}

// Whether there are a file and a GPU for each other, and a browser that lets wasm wait
// for the GPU.
async function wantsGpu() {
  if (!models.some(model => model.webgpu) || !("Suspending" in WebAssembly)) return false;
  const forced = new URLSearchParams(location.search).get("webgpu");
  const adapter = await navigator.gpu?.requestAdapter().catch(() => null);
  return Boolean(adapter) && (forced !== null || !adapter.info?.isFallbackAdapter);
}

function loaded({ready: names, missing}) {
  ready = names;
  for (const input of document.getElementsByName("model")) {
    input.disabled = !ready.includes(input.value);
  }
  const first = models.find(model => ready.includes(model.name));
  if (first && !ready.includes(chosen()?.name)) {
    document.querySelector(`input[value="${first.name}"]`).checked = true;
  }
  if (missing.length) {
    say(`The server has no ${missing.join(" and no ")}: build the page with build.py.`,
      "error");
  } else {
    say(idleNote());
  }
  refresh();
}

function chosen() {
  const name = document.querySelector("input[name=model]:checked")?.value;
  return models.find(model => model.name === name);
}

// === The photo ===

async function open(file) {
  if (!file) return;
  stop();
  const own = opening = {};
  refresh();
  const image = await decoded(file).catch(error => error);
  if (opening !== own) return;
  opening = null;
  if (image instanceof Error) {
    say(image.message, "error");
  } else {
    const {naturalWidth: width, naturalHeight: height} = image;
    photo = {image, name: file.name, width, height};
    $("photo-name").textContent = file.name;
    $("photo-hint").textContent =
      `${width} × ${height}. Choose, drop or paste another one`;
    $("drop").classList.add("small");
    offerSizes();
    say(idleNote());
    showBefore();
  }
  refresh();
}

// The image of a file; an Error with a sentence if there is none.
async function decoded(file) {
  const image = new Image();
  const url = URL.createObjectURL(file);
  try {
    await new Promise((resolve, reject) => {
      Object.assign(image, {onload: resolve, onerror: reject, src: url});
    });
    if (image.naturalWidth * image.naturalHeight <= MAX_OPENED_MEGAPIXELS * 1e6) {
      await image.decode();
      return image;
    }
  } catch {
    throw new Error(
      `${file.name} is no photo that this browser reads: use a JPEG or PNG file.`);
  } finally {
    URL.revokeObjectURL(url);
  }
  throw new Error(`${file.name} has more than the ${MAX_OPENED_MEGAPIXELS} megapixels ` +
    "that this page opens.");
}

function sizes() {
  const {width, height} = photo;
  const longer = Math.max(width, height);
  return [longer, ...SIDES.filter(side => side < longer)].map(side => {
    const scale = side / longer;
    const size = [width, height].map(n => Math.max(Math.round(n * scale), 1));
    return {width: size[0], height: size[1]};
  });
}

function tiles({width, height}, {tile, overlap}) {
  return starts(height, tile[0], overlap).length * starts(width, tile[1], overlap).length;
}

function tooLarge({width, height}) {
  return width * height > MAX_MEGAPIXELS * 1e6;
}

// Fills the list of sizes for the chosen model.
function offerSizes(index = null) {
  const model = chosen();
  if (!photo || !model) return;
  const list = sizes();
  if (index === null) {
    index = list.findIndex(
      size => !tooLarge(size) && tiles(size, model) <= MANY_TILES);
    if (index < 0) index = list.length - 1;
  }
  $("size").replaceChildren(...list.map((size, place) => {
    const count = tiles(size, model);
    const time = about(count * (pace[model.name] ?? model.seconds));
    const text = `${size.width} × ${size.height}, ` + (tooLarge(size) ?
      `more than ${MAX_MEGAPIXELS} megapixels` :
      `${count} ${count > 1 ? "tiles" : "tile"}, about ${time}`);
    const option = new Option(text, place, false, place === index);
    option.disabled = tooLarge(size);
    return option;
  }));
  $("size-row").hidden = false;
}

// What is said while nothing is being restored.
function idleNote() {
  if (!ready.length) {
    const bytes = models.reduce((sum, model) => sum + model.bytes, RUNTIME_BYTES);
    return `Loading ${(bytes / 1e6).toFixed(0)} MB`;
  }
  if (!photo) return "Ready. From here on the page needs no connection.";
  if ($("size").value === "0") return "";
  return $("size").options[0].disabled ?
    `Of a photo of more than ${MAX_MEGAPIXELS} megapixels a smaller copy is restored.` :
    "The whole photo takes long: a smaller copy is chosen. You can change it.";
}

function size() {
  return sizes()[Number($("size").value)];
}

function showBefore() {
  const {width, height} = size();
  for (const canvas of [$("before"), $("after")]) Object.assign(canvas, {width, height});
  const context = $("before").getContext("2d", {willReadFrequently: true});
  context.fillStyle = "white";  // what is transparent
  context.fillRect(0, 0, width, height);
  context.imageSmoothingQuality = "high";
  context.drawImage(photo.image, 0, 0, width, height);
  $("view").style.setProperty("--width", width);
  $("view").style.setProperty("--height", height);
  $("frame").hidden = false;
  compare(false);
  refresh();
}

// === Restoring ===

async function start() {
  const model = chosen(), {width, height} = size();
  const own = job = {id: ++jobs, model, count: tiles({width, height}, model), times: []};
  showBefore();
  // Opaque, so that the PNG has three channels. It becomes sharp row by row.
  const context = $("after").getContext("2d", {alpha: false});
  context.drawImage($("before"), 0, 0);
  $("after").hidden = false;
  split(0);
  refresh();
  if (!worker) await load();
  if (job !== own) return;
  try {
    const {data: {buffer}} =
      $("before").getContext("2d").getImageData(0, 0, width, height);
    own.begin = performance.now();
    say(`Starting, ${own.count} ${own.count > 1 ? "tiles" : "tile"}`);
    worker.postMessage(
      {restore: model, id: own.id, width, height, pixels: buffer}, [buffer]);
  } catch (error) {
    fail(error.message);
  }
}

function progress(data) {
  if (data.failed) {
    fail(data.failed);
  } else if (data.rows) {
    const image = new ImageData(data.rows, $("after").width);
    $("after").getContext("2d").putImageData(image, 0, data.top);
  } else if (data.finished) {
    finish(data.accelerator);
  } else {
    job.times.push(data.seconds);
    // The first tile takes longer.
    const times = job.times.slice(job.times.length > 1 ? 1 : 0);
    const mean = times.reduce((sum, time) => sum + time) / times.length;
    pace[job.model.name] = mean;
    $("progress").value = data.done / data.of;
    say(`Tile ${data.done} of ${data.of}, about ${about((data.of - data.done) * mean)} left`);
  }
}

function finish(accelerator) {
  const seconds = (performance.now() - job.begin) / 1000;
  const where = accelerator === "webgpu" ? " on the GPU" : "";
  job = null;
  compare(true);
  offerSizes(Number($("size").value));  // with the seconds that were measured
  refresh();
  say(`Done in ${seconds < 10 ? seconds.toFixed(1) : seconds.toFixed(0)} s${where}. ` +
    "Move the line to compare.");
}

function stop() {
  if (!job) return;
  worker?.postMessage({cancel: job.id});
  job = null;
  compare(false);
  refresh();
  say("Cancelled.");
}

// After a failure the runtime cannot be trusted: the next photo gets a new worker.
function fail(reason) {
  worker?.terminate();
  worker = job = null;
  if (photo) compare(false);
  refresh();
  say(sentence(reason), "error");
}

function sentence(reason) {
  if (/memory|alloc|abort|out of bounds/i.test(reason)) {
    return "The device has not enough memory: close other pages" +
      (ready.length ? ", or choose a smaller size or model." : ".");
  }
  return `The network does not run here: ${String(reason).split("\n")[0]}`;
}

// === What is seen ===

function refresh() {
  const running = job !== null, done = !$("slider").hidden;
  $("start").disabled = !photo || opening || running || !ready.includes(chosen()?.name);
  $("start").hidden = running || done;
  $("cancel").hidden = $("progress").hidden = !running;
  $("save").hidden = !done;
  $("zoom").hidden = !done;
  $("models").disabled = $("size").disabled = running;
  if (!running) $("progress").value = 0;
}

function say(text, kind = "") {
  $("message").textContent = text;
  $("message").className = kind;
}

// Shows both images with a border between them, or the first one only.
function compare(both) {
  for (const part of ["after", "edge", "slider"]) $(part).hidden = !both;
  $("view").querySelector("figcaption").hidden = !both;
  if (both) split(50);
  else zoom(false);
}

function split(percent) {
  $("slider").value = percent;
  $("view").style.setProperty("--split", `${percent}%`);
}

function zoom(actual) {
  $("frame").classList.toggle("actual", actual);
  $("zoom").setAttribute("aria-pressed", actual);
  const {scrollWidth, clientWidth, scrollHeight, clientHeight} = $("frame");
  $("frame").scrollTo((scrollWidth - clientWidth) / 2, (scrollHeight - clientHeight) / 2);
}

function about(seconds) {
  if (seconds < 90) return `${Math.max(Math.round(seconds), 1)} s`;
  return `${Math.round(seconds / 60)} min`;
}

function save() {
  $("after").toBlob(blob => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(blob);
    link.download = `${photo.name.replace(/\.[^.]*$/, "")}_sharp.png`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60000);
  }, "image/png");
}

function again() {
  offerSizes(Number($("size").value));
  showBefore();
  say(idleNote());
}

function listen() {
  $("photo").addEventListener("change", () => {
    open($("photo").files[0]);
    $("photo").value = "";  // so that the same file can be chosen anew
  });
  document.addEventListener("dragover", event => {
    event.preventDefault();
    $("drop").classList.add("over");
  });
  document.addEventListener("dragleave", event => {
    if (!event.relatedTarget) $("drop").classList.remove("over");
  });
  document.addEventListener("drop", event => {
    event.preventDefault();
    $("drop").classList.remove("over");
    open(event.dataTransfer.files[0]);
  });
  document.addEventListener("paste", event => open(event.clipboardData.files[0]));
  $("models").addEventListener("change", () => photo && again());
  $("size").addEventListener("change", again);
  $("start").addEventListener("click", start);
  $("cancel").addEventListener("click", stop);
  $("save").addEventListener("click", save);
  $("slider").addEventListener("input", () => split($("slider").value));
  $("zoom").addEventListener("click", () =>
    zoom(!$("frame").classList.contains("actual")));
}
