// The live page: pulls pictures with their detections, and the vehicle's overview, from the daemon it came from.
"use strict";

const OVERVIEW_MS = 1000;
const REQUEST_MS = 6000;
const RETRY_MS = [300, 5000];
const STALE_MS = 3000;

const STAGES = ["wait", "preprocess", "inference", "postprocess"];
const WAYS = ["published", "superseded", "rate_limited", "stale", "decode_error", "inference_error", "stopped"];
const VERDICTS = {
  stable: ["Stable", "The world is as the model's reference knows it."],
  alarm: ["Alarm", "The world has left the model's reference."],
  learning: ["Learning", "Too little has been seen to judge."],
  uncalibrated: ["Uncalibrated", "As the reference knows it; but that is too small, or of other cameras, and promises no rate of false alarms."],
  paused: ["Paused", "There is nothing to judge."],
};
const STATES = {
  fresh: ["fresh", "good"], ended: ["recording ended", "quiet"], opening: ["opening", "wait"],
  back_off: ["lost, trying again", "wait"], stale: ["stale", "bad"],
};

const by = (id) => document.getElementById(id);
const view = { camera: decodeURIComponent(location.hash.slice(1)), cameras: [], after: "", shot: null, at: 0, pull: null, overview: null };
const faults = { picture: false, overview: false };

// Small helpers: all text goes in as text.

function put(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

function make(tag, className, text) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text;
  return node;
}

function rows(parent, count, create) {
  while (parent.children.length < count) parent.append(create(parent.children.length));
  while (parent.children.length > count) parent.lastChild.remove();
  return [...parent.children];
}

function facts(list, pairs) {
  const shown = pairs.filter(([, value]) => value !== null && value !== "");
  const nodes = rows(list, 2 * shown.length, (place) => make(place % 2 ? "dd" : "dt"));
  shown.forEach(([name, value], index) => {
    put(nodes[2 * index], name);
    put(nodes[2 * index + 1], value);
  });
}

const ms = (value) => `${value < 10 ? value.toFixed(1) : Math.round(value)} ms`;
const hz = (value) => `${value.toFixed(1)}/s`;
const count = (value) => value.toLocaleString("en").replaceAll(",", "\u202f");
const words = (name) => name.replaceAll("_", " ");

function bytes(value) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let place = 0;
  for (; value >= 1000 && place < units.length - 1; place++) value /= 1000;
  return `${value < 10 && place ? value.toFixed(1) : Math.round(value)} ${units[place]}`;
}

function span(seconds) {
  if (seconds < 60) return `${Math.floor(seconds)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${Math.floor(seconds % 60)} s`;
  const hours = Math.floor(seconds / 3600);
  return hours < 48 ? `${hours} h ${Math.floor((seconds % 3600) / 60)} min` : `${Math.floor(hours / 24)} d ${hours % 24} h`;
}

// Neighbours in a model's list of classes are the golden angle apart.
const colour = (index) => `hsl(${(index * 137.508 + 165) % 360} 85% 62%)`;

// Requests: each with a time-out; 401 leads to the login.

async function get(path, signal) {
  const cut = new AbortController();
  const timer = setTimeout(() => cut.abort(), REQUEST_MS);
  const stop = () => cut.abort();
  signal?.addEventListener("abort", stop);
  try {
    const answer = await fetch(path, { signal: cut.signal, cache: "no-store" });
    if (answer.status === 401) location.assign("/login");
    if (answer.status === 204) return null;
    if (!answer.ok) throw new Error(`HTTP ${answer.status}`);
    return path.startsWith("/live/") ? await answer.arrayBuffer() : await answer.json();
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener("abort", stop);
  }
}

const pause = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));

function visible() {
  if (!document.hidden) return Promise.resolve();
  return new Promise((done) => document.addEventListener("visibilitychange", done, { once: true }));
}

/** Do something again and again; after a failure, wait longer each time, by chance. */
async function forever(what, step) {
  let wait = RETRY_MS[0];
  for (;;) {
    await visible();
    try {
      await step();
      faults[what] = false;
      wait = RETRY_MS[0];
    } catch {
      faults[what] = true;
      view.after = "";
      connection();
      await pause(wait * (0.5 + Math.random()));
      wait = Math.min(RETRY_MS[1], wait * 2);
    }
    connection();
  }
}

function connection() {
  const lost = faults.overview || faults.picture;
  by("connection").dataset.tone = lost ? "bad" : "good";
  put(by("connection-text"), lost ? "connection lost, trying again" : "connected");
  if (lost) {
    by("ready").dataset.tone = "wait";
    put(by("ready-text"), "unknown");
    by("troubles").hidden = true;
  }
}

// The picture: one at a time, each with its own detections, so that they are always of the same frame.

async function pullPicture() {
  if (!view.camera) return pause(200);
  view.pull = new AbortController();
  const asked = view.camera;
  let data;
  try {
    data = await get(`/live/${encodeURIComponent(asked)}?after=${encodeURIComponent(view.after)}`, view.pull.signal);
  } catch (error) {
    if (asked !== view.camera) return undefined; // another camera was chosen meanwhile
    throw error;
  }
  if (data === null || asked !== view.camera) return undefined;
  const length = new DataView(data).getUint32(0);
  const head = JSON.parse(new TextDecoder().decode(new Uint8Array(data, 4, length)));
  const bitmap = await createImageBitmap(new Blob([new Uint8Array(data, 4 + length)], { type: "image/jpeg" }));
  if (asked !== view.camera) {
    bitmap.close();
    return undefined;
  }
  view.shot?.bitmap.close();
  view.shot = { head, bitmap };
  view.after = head.id;
  view.at = performance.now();
  draw();
  describe(head);
  return undefined;
}

function draw() {
  const canvas = by("picture"), screen = by("screen");
  if (!view.shot) {
    canvas.width = canvas.width; // clears it
    return;
  }
  const { head, bitmap } = view.shot;
  screen.style.aspectRatio = `${head.width_px} / ${head.height_px}`;
  const dense = window.devicePixelRatio || 1;
  const wide = Math.max(1, Math.round(canvas.clientWidth * dense)), high = Math.max(1, Math.round(canvas.clientHeight * dense));
  if (canvas.width !== wide) canvas.width = wide;
  if (canvas.height !== high) canvas.height = high;
  const pen = canvas.getContext("2d");
  pen.imageSmoothingQuality = "high";
  pen.drawImage(bitmap, 0, 0, wide, high);
  const across = wide / head.width_px, down = high / head.height_px;
  const small = canvas.clientWidth < 500;
  pen.lineJoin = "round";
  for (const found of [...head.detections].reverse()) drawBox(pen, found, across, down, small ? 0.75 * dense : dense);
  pen.font = `600 ${(small ? 10 : 12.5) * dense}px system-ui, sans-serif`;
  pen.textBaseline = "middle";
  const taken = [];
  for (const found of head.detections) drawLabel(pen, found, across, down, small ? 0.8 * dense : dense, taken);
}

function drawBox(pen, found, across, down, unit) {
  const [x1, y1, x2, y2] = found.box_px;
  for (const [style, width] of [["rgb(0 0 0 / 55%)", 4], [colour(found.class_index), 2]]) {
    pen.strokeStyle = style;
    pen.lineWidth = width * unit;
    pen.strokeRect(x1 * across, y1 * down, (x2 - x1) * across, (y2 - y1) * down);
  }
}

/** Name and score on top of a box, unless a surer detection's label is there: a heap of labels says nothing. */
function drawLabel(pen, found, across, down, unit, taken) {
  const x = found.box_px[0] * across, y = found.box_px[1] * down;
  const label = `${found.class_name} ${Math.round(found.score * 100)}%`;
  const high = 19 * unit, wide = pen.measureText(label).width + 10 * unit;
  const left = Math.max(0, Math.min(x - unit, pen.canvas.width - wide));
  const top = y >= high ? y - high : Math.min(y, pen.canvas.height - high);
  if (taken.some((other) => left < other.left + other.wide && other.left < left + wide && top < other.top + high && other.top < top + high)) return;
  taken.push({ left, top, wide });
  pen.fillStyle = colour(found.class_index);
  pen.beginPath();
  pen.roundRect(left, top, wide, high, 3 * unit);
  pen.fill();
  pen.fillStyle = "#05080a";
  pen.fillText(label, left + 5 * unit, top + high / 2 + 0.5 * unit);
}

function describe(head) {
  const found = new Map();
  for (const { class_name: name, class_index: index } of head.detections) {
    found.set(name, { name, index, number: (found.get(name)?.number || 0) + 1 });
  }
  const sorted = [...found.values()].sort((one, other) => other.number - one.number || one.index - other.index);
  const items = rows(by("found"), sorted.length, () => {
    const item = make("li");
    item.append(make("span", "swatch"), make("span"));
    return item;
  });
  sorted.forEach(({ name, index, number }, place) => {
    items[place].firstChild.style.background = colour(index);
    put(items[place].lastChild, `${number} ${name}`);
  });
  const said = sorted.map(({ name, number }) => `${number} ${name}`).join(", ") || "nothing found";
  by("picture").setAttribute("aria-label", `${head.camera}: ${said}`);
  put(by("frame"), `frame ${count(head.sequence)} · age ${ms(head.age_ms)} · model ${head.model.version} (${head.model.sha256.slice(0, 8)})`);
  for (const stage of STAGES) put(by(`now-${stage}`), ms(head.times_ms[stage]));
}

function freshness() {
  const old = performance.now() - view.at;
  const stale = !view.shot || old > STALE_MS;
  by("screen").classList.toggle("stale", Boolean(view.shot) && stale);
  by("notice").hidden = !stale;
  if (!stale) return;
  const camera = view.cameras.find((one) => one.name === view.camera);
  const ended = camera?.state === "ended";
  if (!view.shot) put(by("notice"), ended ? "The recording has ended" : "Waiting for a picture");
  else put(by("notice"), ended ? "The recording has ended" : `No new picture for ${span(old / 1000)}`);
}

// The overview.

async function pullOverview() {
  const news = await get("/overview");
  show(news);
  await pause(OVERVIEW_MS);
}

function show(news) {
  view.cameras = news.cameras;
  if (!news.cameras.some((camera) => camera.name === view.camera)) choose(news.cameras[0]?.name || "");
  document.title = `${news.vehicle} · Traffic Vision`;
  put(by("vehicle"), news.vehicle);
  by("ready").dataset.tone = news.troubles.length ? "bad" : "good";
  put(by("ready-text"), news.troubles.length ? "not ready" : "ready");
  const told = [...news.troubles, ...news.alarms];
  by("troubles").hidden = !told.length;
  rows(by("troubles"), told.length, () => make("li")).forEach((item, place) => put(item, told[place]));
  showTabs(news.cameras);
  showStages(news.stages_ms);
  const camera = news.cameras.find((one) => one.name === view.camera);
  if (camera) showCamera(camera);
  showDrift(news.drift.find((state) => state.camera === view.camera));
  showDeviceDrift(news.device_drift, news.cameras.length);
  showModel(news.model);
  showVehicle(news);
}

function showTabs(cameras) {
  by("cameras").hidden = cameras.length < 2;
  const tabs = rows(by("cameras"), cameras.length, () => {
    const tab = make("button");
    tab.type = "button";
    tab.append(make("span", "dot"), make("span"));
    tab.addEventListener("click", () => choose(tab.lastChild.textContent));
    return tab;
  });
  cameras.forEach((camera, place) => {
    put(tabs[place].lastChild, camera.name);
    tabs[place].dataset.tone = STATES[camera.state]?.[1] || "wait";
    tabs[place].setAttribute("aria-pressed", String(camera.name === view.camera));
  });
}

function showStages(stages) {
  const total = STAGES.reduce((sum, stage) => sum + stages[stage].p50, 0);
  put(by("total"), total ? `about ${ms(total)} a frame` : "");
  const parts = rows(by("stage-bar"), STAGES.length, (place) => {
    const part = make("i");
    part.dataset.part = STAGES[place];
    return part;
  });
  STAGES.forEach((stage, place) => {
    parts[place].style.flexGrow = total ? stages[stage].p50 / total : 0;
    put(by(`p50-${stage}`), ms(stages[stage].p50));
    put(by(`p99-${stage}`), ms(stages[stage].p99));
  });
}

function showCamera(camera) {
  put(by("camera-state"), STATES[camera.state]?.[0] || words(camera.state));
  facts(by("camera-facts"), [
    ["captured", hz(camera.captured_hz)],
    ["published", hz(camera.published_hz)],
    ["age p50 · p99", `${ms(camera.age_ms.p50)} · ${ms(camera.age_ms.p99)}`],
    ["frames", count(camera.captured_frames)],
    ["losses", camera.losses ? count(camera.losses) : ""],
    ["vehicle", camera.motion === "unspecified" ? "" : words(camera.motion)],
  ]);
  const ways = WAYS.filter((way) => way === "published" || camera.outcomes[way]);
  const total = Math.max(1, WAYS.reduce((sum, way) => sum + (camera.outcomes[way] || 0), 0));
  const parts = rows(by("ways-bar"), WAYS.length, (place) => {
    const part = make("i");
    part.dataset.part = WAYS[place];
    return part;
  });
  WAYS.forEach((way, place) => {
    parts[place].hidden = !camera.outcomes[way];
    parts[place].style.flexGrow = (camera.outcomes[way] || 0) / total;
    parts[place].title = words(way);
  });
  const items = rows(by("ways"), ways.length, () => {
    const item = make("li");
    item.append(make("span", "swatch"), make("span"));
    return item;
  });
  ways.forEach((way, place) => {
    items[place].dataset.part = way;
    put(items[place].lastChild, `${words(way)} ${count(camera.outcomes[way] || 0)}`);
  });
  put(by("camera-detail"), camera.detail);
}

function showDrift(state) {
  const [title, meaning] = state ? VERDICTS[state.verdict] || [words(state.verdict), ""] : ["None", "Nothing is judged: the monitor is off, or has seen no frame yet."];
  by("verdict").dataset.verdict = state?.verdict || "";
  put(by("verdict"), state?.kind ? `${title}: ${words(state.kind)}` : title);
  put(by("drift-say"), state?.explanation || meaning);
  const features = state?.features.slice(0, 6) || [];
  const items = rows(by("features"), features.length, () => {
    const item = make("li"), meter = make("span", "meter");
    meter.append(make("i"));
    item.append(make("span", "name"), meter, make("span", "d"));
    return item;
  });
  features.forEach((feature, place) => {
    const [name, meter, d] = items[place].children;
    items[place].dataset.verdict = feature.verdict;
    put(name, feature.label);
    name.title = feature.shift_sigma === null ? "" : `${feature.shift_sigma.toFixed(1)} sigma off over ${Math.round(feature.window_s)} s`;
    meter.firstChild.style.width = `${Math.round(100 * Math.min(1, feature.d))}%`;
    put(d, `D ${feature.d.toFixed(2)}`);
  });
  const change = state?.estimated_map50_change ?? null;
  put(by("drift-foot"), [
    state?.context ? `context: ${words(state.context)}` : "",
    change === null ? "" : `mAP50 ${change < 0 ? "" : "+"}${change.toFixed(2)}, estimated without labels`,
    features.length ? "D: distance from the reference, 0 as known to 1 never seen" : "",
  ].filter(Boolean).join(" \u00b7 "));
  const notes = state?.notes || [];
  rows(by("drift-notes"), notes.length, () => make("li")).forEach((item, place) => put(item, notes[place]));
}

function showDeviceDrift(device, cameras) {
  by("device-drift").hidden = !device || cameras < 2;
  if (!device) return;
  const title = VERDICTS[device.verdict]?.[0] || words(device.verdict);
  put(by("device-drift"), `all cameras: ${title} (${device.cameras.join(", ")})`);
}

function showModel(model) {
  put(by("phase"), model.phase === "idle" ? "no update under way" : words(model.phase));
  const got = model.total_bytes ? `${bytes(model.received_bytes)} of ${bytes(model.total_bytes)}` : "";
  facts(by("model-facts"), [
    ["runs", `${model.name} ${model.version}`],
    ["digest", model.sha256.slice(0, 16)],
    ["slot", words(model.slot)],
    ["next", model.candidate ? `${model.candidate.name} ${model.candidate.version}` : ""],
    ["fetched", got],
    ["signature", model.signature],
  ]);
  put(by("model-detail"), model.detail);
}

function showVehicle(news) {
  const { spool, disk, inference } = news;
  put(by("version"), `version ${news.daemon_version}`);
  facts(by("vehicle-facts"), [
    ["inference", inference.down_s === null ? inference.providers.map((name) => name.replace("ExecutionProvider", "")).join(", ") : `down for ${span(inference.down_s)}`],
    ["restarts of it", inference.restarts ? count(inference.restarts) : ""],
    ["cloud", news.cloud_connected ? "connected" : "not connected"],
    ["samples that wait", spool.samples ? `${count(spool.samples)}, ${bytes(spool.used_bytes)} of ${bytes(spool.limit_bytes)}` : "none"],
    ["written in 24 h", disk.limit_bytes_per_day ? `${bytes(disk.written_bytes)} of ${bytes(disk.limit_bytes_per_day)}` : ""],
    ["samples dropped", spool.dropped_samples ? count(spool.dropped_samples) : ""],
    ["memory", bytes(news.resident_bytes)],
    ["up for", span(news.uptime_s)],
  ]);
}

function choose(name) {
  if (name === view.camera) return;
  view.camera = name;
  view.after = "";
  view.shot?.bitmap.close();
  view.shot = null;
  view.at = performance.now();
  if (name) history.replaceState(null, "", `#${encodeURIComponent(name)}`);
  view.pull?.abort();
  draw();
  freshness();
  for (const stage of STAGES) put(by(`now-${stage}`), "–");
  rows(by("found"), 0);
  put(by("frame"), "–");
  if (view.cameras.length) showTabs(view.cameras);
}

for (const stage of STAGES) {
  const row = make("tr"), head = make("th");
  row.dataset.part = stage;
  head.scope = "row";
  head.append(make("span", "swatch"), make("span", "", stage));
  row.append(head);
  for (const column of ["now", "p50", "p99"]) {
    const cell = make("td", "", "–");
    cell.id = `${column}-${stage}`;
    row.append(cell);
  }
  by("stages").append(row);
}
new ResizeObserver(draw).observe(by("screen"));
window.addEventListener("hashchange", () => choose(decodeURIComponent(location.hash.slice(1))));
setInterval(freshness, 500);
forever("overview", pullOverview);
forever("picture", pullPicture);
