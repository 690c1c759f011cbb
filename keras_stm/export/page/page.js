// Recognises what a camera or a video file shows, with the model beside this page.
//
// Other scripts may listen to two events of the window. `frame` comes before a frame is recognised, and its
// `detail` is {time, width, height, pixels}, with RGB pixels to be read at once. `scores` comes after it, with
// {time, scores}.

const NUM_BEST = 5;
const MINUTE = 60; // seconds
const NUM_TIMED = 20; // frames whose mean is the speed
// Files and browsers round the times of frames, some to milliseconds. A frame of any camera is longer than this.
const TOLERANCE = 0.002; // seconds

const element = (id) => document.getElementById(id);
const video = element("video");
const pixelCanvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });

let settings;
let session; // of ONNX Runtime
let Tensor;
let run = 0; // Number of the source that is followed. Every new source, and a stop, increases it.
let answers = []; // {time, best, score}, of the last minute
let timings = []; // {end, duration} in milliseconds, of the last frames
let missed = 0;

/** The model's state between the frames of one source. */
class Stream {
  constructor() {
    this.state = {};
    for (const { name, shape } of session.inputMetadata) {
      if (name === "frame") continue;
      const sizes = [1, ...shape.slice(1)];
      const zeros = new Float32Array(sizes.reduce((product, size) => product * size));
      this.state[name] = new Tensor("float32", zeros, sizes);
    }
  }

  /** Returns the scores after one more frame, and keeps the state for the next. */
  async take({ width, height, pixels }) {
    const frame = new Tensor("uint8", pixels, [1, height, width, 3]);
    const results = await session.run({ frame, ...this.state });
    for (const name of Object.keys(this.state)) this.state[name] = results[`next_${name}`];
    return results.scores.data;
  }
}

/** Returns the content of a URL; `integrity` is the hash that it must have. */
async function load(url, integrity = "") {
  let response;
  try {
    response = await fetch(url, { integrity });
  } catch (error) {
    throw new Error(`${url} cannot be loaded, or is another version than this page expects.`);
  }
  if (!response.ok) throw new Error(`${url} cannot be loaded: ${response.status} ${response.statusText}`);
  return response;
}

async function loadModel() {
  const { script, binary } = settings.runtime;
  const parts = [load(script.url, script.integrity), load(binary.url, binary.integrity), load("model.onnx")];
  const [code, machineCode, model] = await Promise.all(
    (await Promise.all(parts)).map((response) => response.arrayBuffer()),
  );
  const url = URL.createObjectURL(new Blob([code], { type: "text/javascript" }));
  const ort = await import(url);
  ort.env.wasm.wasmBinary = machineCode;
  // More threads need headers that few servers of static files send.
  ort.env.wasm.numThreads = 1;
  // The page stays usable while the runtime computes in a thread of its own.
  ort.env.wasm.proxy = true;
  session = await ort.InferenceSession.create(new Uint8Array(model), { executionProviders: ["wasm"] });
  Tensor = ort.Tensor;
}

/** Returns the width and height of the video's frames in stored pixels. */
function storedSize() {
  const shown = [video.videoWidth, video.videoHeight];
  if (!("VideoFrame" in window)) return shown;
  const frame = new VideoFrame(video);
  const { width, height } = frame.visibleRect;
  frame.close();
  // Browsers stretch pixels that are not square, along one side. The training takes them as they are stored.
  const isUpright = shown[0] === width || shown[1] === height;
  return isUpright ? [width, height] : [height, width];
}

/** Returns the frame that the video shows, as RGB pixels. */
function readFrame(time) {
  const [width, height] = storedSize();
  const { canvas } = pixelCanvas;
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
  pixelCanvas.drawImage(video, 0, 0, width, height);
  const rgba = pixelCanvas.getImageData(0, 0, width, height).data;
  const pixels = new Uint8Array(width * height * 3);
  for (let from = 0, to = 0; from < rgba.length; from += 4) {
    pixels[to++] = rgba[from];
    pixels[to++] = rgba[from + 1];
    pixels[to++] = rgba[from + 2];
  }
  return { time, width, height, pixels };
}

/** Recognises the frame that the video shows at `time`, in seconds, and shows the answer. */
async function answer(stream, time, isCurrent) {
  const frame = readFrame(time);
  window.dispatchEvent(new CustomEvent("frame", { detail: frame }));
  const start = performance.now();
  const scores = await stream.take(frame);
  if (!isCurrent()) return;
  const end = performance.now();
  timings = [...timings, { end, duration: end - start }].slice(-NUM_TIMED);
  show(time, scores);
  window.dispatchEvent(new CustomEvent("scores", { detail: { time, scores } }));
}

function show(time, scores) {
  const order = Array.from(scores.keys()).sort((a, b) => scores[b] - scores[a]);
  answers = answers.filter((each) => each.time > time - MINUTE);
  answers.push({ time, best: order[0], score: scores[order[0]] });
  showBest(order.slice(0, NUM_BEST), scores);
  showTimeline();
  showSpeed();
}

function color(index) {
  // The golden angle keeps the colours of neighbouring indices apart.
  return `hsl(${(index * 137.5) % 360} 65% 50%)`;
}

/** Returns a new element; names of classes must come here as text, never as HTML. */
function make(tag, text = "", ...children) {
  const made = document.createElement(tag);
  made.textContent = text;
  made.append(...children);
  return made;
}

function showBest(order, scores) {
  const items = order.map((index) => {
    const bar = make("i");
    bar.style.width = `${100 * scores[index]}%`;
    bar.style.background = color(index);
    const name = make("span", settings.class_names[index]);
    return make("li", "", name, make("span", `${(100 * scores[index]).toFixed(1)}%`), bar);
  });
  element("best").replaceChildren(...items);
}

/** Draws a bar for each answer, as high as its score, in the colour of its class. */
function showTimeline() {
  const canvas = element("timeline");
  const context = canvas.getContext("2d");
  canvas.width = canvas.clientWidth * devicePixelRatio;
  canvas.height = canvas.clientHeight * devicePixelRatio;
  const period = 1 / settings.rate;
  const end = answers.at(-1)?.time + period;
  const x = (time) => Math.round(canvas.width * (1 - (end - time) / MINUTE));
  answers.forEach(({ time, best, score }, index) => {
    const left = x(time);
    const right = x(answers[index + 1]?.time ?? time + period);
    context.fillStyle = color(best);
    context.fillRect(left, canvas.height * (1 - score), right - left, canvas.height * score);
  });
  const items = [...new Set(answers.map(({ best }) => best))].map((best) => {
    const sample = make("i");
    sample.style.background = color(best);
    return make("li", "", sample, make("span", settings.class_names[best]));
  });
  element("legend").replaceChildren(...items);
}

function showSpeed() {
  const mean = timings.reduce((sum, each) => sum + each.duration, 0) / timings.length;
  const parts = [`${mean.toFixed(mean < 10 ? 1 : 0)} ms a frame`];
  if (timings.length > 1) {
    const seconds = (timings.at(-1).end - timings[0].end) / 1000;
    parts.push(`${((timings.length - 1) / seconds).toFixed(1)} of ${+settings.rate.toFixed(2)} frames a second`);
  }
  if (missed) parts.push(`${missed} frames missed: this device is slower than the model's rate`);
  element("speed").textContent = parts.join(" · ");
}

function tell(text, isError = false) {
  element("message").textContent = text;
  element("message").classList.toggle("error", isError);
}

/** Returns a promise of an event of the video; it fails if the video does. */
function event(name) {
  return new Promise((resolve, reject) => {
    const controller = new AbortController();
    const on = (type, end) => {
      const options = { signal: controller.signal };
      video.addEventListener(type, () => (controller.abort(), end(video.error)), options);
    };
    on(name, resolve);
    on("error", reject);
  });
}

async function followCamera(stream, isCurrent) {
  if (!navigator.mediaDevices) throw new Error("Browsers allow the camera only on https:// and on localhost.");
  tell("Waiting for the camera …");
  // Larger frames would only be slower, because the model takes fewer pixels.
  const wanted = { height: { ideal: 480 }, facingMode: "environment" };
  const media = await navigator.mediaDevices.getUserMedia({ video: wanted });
  const [track] = media.getVideoTracks();
  if (!isCurrent()) return track.stop();
  video.srcObject = media;
  await video.play();
  tell("The camera is on.");
  track.addEventListener("ended", () => isCurrent() && (stop(), tell("The camera has stopped.", true)));
  let due;
  while (isCurrent()) {
    const time = await new Promise((resolve) => {
      video.requestVideoFrameCallback((now) => resolve(now / 1000));
    });
    if (!isCurrent()) return;
    if (time < due - TOLERANCE) continue;
    due ??= time;
    const late = Math.max(0, Math.floor((time - due) * settings.rate));
    missed += late;
    due += (late + 1) / settings.rate;
    await answer(stream, time, isCurrent);
  }
}

/** Takes every frame that the model wants, at most as fast as the video plays. */
async function followFile(file, stream, isCurrent) {
  tell(`Opening ${file.name} …`);
  video.src = URL.createObjectURL(file);
  try {
    await event("loadeddata");
  } catch {
    throw new Error(`This browser cannot play ${file.name}.`);
  }
  if (!isCurrent()) return;
  tell(file.name);
  const start = performance.now();
  for (let index = 0; ; index++) {
    const time = index / settings.rate;
    if (time >= video.duration) break;
    video.currentTime = time + TOLERANCE;
    await event("seeked");
    if (!isCurrent()) return;
    await answer(stream, time, isCurrent);
    if (!isCurrent()) return;
    const pause = start + (1000 * (index + 1)) / settings.rate - performance.now();
    await new Promise((resolve) => setTimeout(resolve, pause));
    if (!isCurrent()) return;
  }
  element("stop").disabled = true;
  tell(`${file.name} has ended.`);
}

function stop() {
  run++;
  for (const track of video.srcObject?.getTracks() ?? []) track.stop();
  video.srcObject = null;
  if (video.src) URL.revokeObjectURL(video.src);
  video.removeAttribute("src");
  video.load();
  element("stop").disabled = true;
  tell("Stopped.");
}

const CAMERA_ERRORS = {
  NotAllowedError: "The camera is not allowed. Allow it for this page in the browser.",
  NotFoundError: "There is no camera. A video file works without one.",
  NotReadableError: "Another program uses the camera.",
};

/** Starts to recognise a source, in place of the one before. */
async function start(follow) {
  stop();
  const mine = run;
  const isCurrent = () => run === mine;
  element("stop").disabled = false;
  [answers, timings, missed] = [[], [], 0];
  try {
    await follow(new Stream(), isCurrent);
  } catch (error) {
    if (!isCurrent()) return;
    stop();
    tell(CAMERA_ERRORS[error.name] ?? error.message, true);
  }
}

function openFile(file) {
  if (file && session) start((stream, isCurrent) => followFile(file, stream, isCurrent));
}

element("camera").addEventListener("click", () => start(followCamera));
element("choose").addEventListener("click", () => element("file").click());
element("stop").addEventListener("click", stop);
element("file").addEventListener("change", ({ target }) => {
  openFile(target.files[0]);
  // Otherwise the same file could not be chosen again.
  target.value = "";
});
for (const name of ["dragover", "dragleave", "drop"]) {
  document.addEventListener(name, (drag) => {
    drag.preventDefault();
    element("screen").classList.toggle("over", name === "dragover");
  });
}
document.addEventListener("drop", ({ dataTransfer }) => openFile(dataTransfer.files[0]));
window.addEventListener("resize", showTimeline);

try {
  settings = await (await load("settings.json")).json();
  await loadModel();
  element("camera").disabled = element("choose").disabled = false;
  tell("Ready: use the camera, choose a video file, or drop one here.");
} catch (error) {
  tell(error.message, true);
}
