// The live page: microphone -> WebSocket -> speakers, and controls that act while it runs.

const WAIT_SECONDS = 0.06;
const MAX_RECORDING_SECONDS = 1800;
// Controls of choices that a running engine cannot change.
const FIXED = ["preset", "source", "input", "output"];
const $ = (id) => document.getElementById(id);
let socket = null, context = null, stream = null;
let controls = [], effects = [], texts = {};

// A text of the language of the page, with the values of its placeholders.
function text(name, values = {}) {
  return texts[name].replace(/{(\w+)}/g, (_, key) => values[key]);
}

function show(message, isError = false) {
  // Screen readers announce each assignment.
  if ($("status").textContent !== message) $("status").textContent = message;
  $("status").className = isError ? "error" : "";
}

function send(values) {
  if (socket && socket.readyState === WebSocket.OPEN) socket.send(JSON.stringify(values));
}

// List choices, and keep the chosen one if it is still there, or in use.
function fill(select, names) {
  const before = [...select.options].map((option) => option.value), chosen = select.value;
  const options = names.map((name) => new Option(name.label || name, name.value ?? name));
  if (socket && !options.some(({ value }) => value === chosen)) options.push(new Option(chosen));
  // A change would disturb an open list.
  if (JSON.stringify(options.map(({ value }) => value)) === JSON.stringify(before)) return;
  select.replaceChildren(...options);
  if (options.some(({ value }) => value === chosen)) select.value = chosen;
}

// A slider for a range, a number field where the range is open or empty means "off", or a checkbox.
function inputOf(control) {
  const { name: id, min, max, default: value } = control;
  if (control.kind === "switch") return { type: "checkbox", id, checked: value };
  const span = max - min;
  const step = control.kind === "whole" ? 1 : span >= 20 ? 0.5 : span >= 2 ? 0.1 : 0.01;
  if (min === null || max === null || value === null) return { type: "number", id, min, max, step, value, placeholder: text("live.off") };
  return { type: "range", id, min, max, step, value };
}

function addControl(control) {
  const label = document.createElement("label");
  const input = document.createElement("input");
  for (const [key, value] of Object.entries(inputOf(control))) if (value !== null) input[key] = value;
  const output = document.createElement("output");
  const show = () => (output.textContent = input.type === "range" ? input.value : "");
  input.oninput = () => {
    show();
    send({ [control.name]: valueOf(control) });
  };
  show();
  const help = Object.assign(document.createElement("small"), { textContent: control.help });
  if (control.kind === "switch") {
    label.className = "switch";
    label.append(input, control.label, help);
  } else label.append(control.label, output, input, help);
  $(control.prominent ? "controls" : "others").append(label);
}

function addEffect({ name, label: title }) {
  const label = Object.assign(document.createElement("label"), { className: "switch" });
  const input = Object.assign(document.createElement("input"), { type: "checkbox", id: `effect_${name}` });
  input.onchange = () => {
    effects = effects.filter((other) => other !== name);
    if (input.checked) effects.push(name);
    send({ effects });
  };
  label.append(input, title);
  $("effects").append(label);
}

function build(choices) {
  controls = choices.controls;
  controls.forEach(addControl);
  choices.effects.forEach(addEffect);
  for (const name of ["mute", "bypass"]) $(name).onchange = () => send({ [name]: $(name).checked });
  $("speaker").onchange = () => send({ speaker: speaker() });
  $("voice").onchange = changeVoice;
  $("record").onchange = () => ($("record").checked ? startRecording() : saveRecording());
  $("start").onclick = () => (socket ? stop(text("live.stopped")) : start());
}

// Disable the controls without effect on the chosen voice, and return the values of those that this changes.
async function describeVoice() {
  const response = await fetch(`voice?name=${encodeURIComponent($("voice").value)}`);
  const names = response.ok ? (await response.json()).without_effect : [];
  const changed = controls.filter(({ name }) => $(name).disabled !== names.includes(name));
  for (const { name } of changed) $(name).disabled = !$(name).disabled;
  return Object.fromEntries(changed.map((control) => [control.name, valueOf(control)]));
}

async function changeVoice() {
  // Speakers belong to a voice.
  $("speaker").value = "";
  const values = await describeVoice();
  send({ ...values, voice: $("voice").value, speaker: null });
}

function valueOf(control) {
  const input = $(control.name);
  if (input.disabled) return control.default;
  if (input.type === "checkbox") return input.checked;
  return input.value === "" ? null : Number(input.value);
}

function speaker() {
  const name = $("speaker").value.trim();
  return name === "" ? null : /^\d+$/.test(name) ? Number(name) : name;
}

function options() {
  const values = Object.fromEntries(controls.map((control) => [control.name, valueOf(control)]));
  return { ...values, effects, speaker: speaker(), mute: $("mute").checked, bypass: $("bypass").checked };
}

function lock(isLocked) {
  for (const id of FIXED) $(id).disabled = isLocked;
}

async function start() {
  const first = { voice: $("voice").value, preset: $("preset").value, ...options() };
  const onDevices = $("source").value === "machine";
  if (onDevices && !($("input").value && $("output").value)) return show(text("live.no_devices"), true);
  $("start").textContent = text("live.stop");
  lock(true);
  // A second click before the microphone is permitted would open it twice.
  $("start").disabled = true;
  try {
    if (!onDevices) {
      await openAudio();
      first.sample_rate = context.sampleRate;
    } else {
      first.input = $("input").value;
      first.output = $("output").value;
    }
  } catch (error) {
    stop(microphoneProblem(error), true);
    return;
  } finally {
    $("start").disabled = false;
  }
  show(text("live.loading"));
  const scheme = location.protocol === "https:" ? "wss:" : "ws:";
  socket = new WebSocket(`${scheme}//${location.host}/live/stream`);
  socket.binaryType = "arraybuffer";
  socket.onopen = () => socket.send(JSON.stringify(first));
  socket.onmessage = ({ target, data }) => {
    // Messages still arrive after a stop.
    if (target === socket) typeof data === "string" ? report(JSON.parse(data)) : play(data);
  };
  socket.onclose = ({ target }) => target === socket && stop(text("live.disconnected"), true);
}

function microphoneProblem({ name, message }) {
  if (name === "NotFoundError") return text("live.no_microphone");
  if (name === "NotAllowedError") return text("live.not_permitted");
  return text("live.microphone_failed", { reason: message });
}

let ready = false, player = null, late = 0, waitSeconds = WAIT_SECONDS;

async function openAudio() {
  if (!window.isSecureContext) throw new Error(text("live.insecure"));
  const audio = { echoCancellation: false, noiseSuppression: false, autoGainControl: false, channelCount: 1 };
  stream = await navigator.mediaDevices.getUserMedia({ audio });
  context = new AudioContext({ latencyHint: "interactive" });
  await context.audioWorklet.addModule("worklets.js");
  const capture = new AudioWorkletNode(context, "capture", { numberOfOutputs: 0 });
  capture.port.onmessage = ({ data }) => {
    if (!ready) return;
    keep("input", data.slice());
    if (socket.bufferedAmount < 1 << 18) socket.send(data.buffer);
  };
  context.createMediaStreamSource(stream).connect(capture);
  player = new AudioWorkletNode(context, "playback", { processorOptions: { waitSeconds: WAIT_SECONDS } });
  late = 0;
  waitSeconds = WAIT_SECONDS;
  player.port.onmessage = ({ data }) => ({ late, waitSeconds } = data);
  player.connect(context.destination);
  window.livePlayer = player;
}

function play(data) {
  keep("output", new Int16Array(data));
  if (player) player.port.postMessage(new Int16Array(data));
}

// Pieces of the microphone and of the converted voice, 16-bit, while "Record" is on.
let recorded = null;

function startRecording() {
  recorded = { input: [], output: [], samples: 0, rate: context ? context.sampleRate : 0 };
}

function keep(name, piece) {
  if (!recorded) return;
  recorded[name].push(piece);
  if (name === "input") recorded.samples += piece.length;
  if (recorded.samples < MAX_RECORDING_SECONDS * recorded.rate) return;
  // Recordings are in memory.
  $("record").checked = false;
  saveRecording(text("live.record_limit", { minutes: MAX_RECORDING_SECONDS / 60 }));
}

// Show links to the recording in place of those to the one before.
function saveRecording(note = "") {
  const { input, output, rate } = recorded ?? { input: [], output: [] };
  recorded = null;
  if (!input.length && !output.length) return;
  for (const link of $("files").querySelectorAll("a")) URL.revokeObjectURL(link.href);
  $("files").replaceChildren(note, " ", text("live.download"), " ");
  for (const [name, pieces] of Object.entries({ input, output })) {
    if (!pieces.length) continue;
    const link = Object.assign(document.createElement("a"), { download: `live_${name}.wav`, textContent: `live_${name}.wav` });
    link.href = URL.createObjectURL(new Blob([wavHeader(pieces, rate), ...pieces], { type: "audio/wav" }));
    $("files").append(link, " ");
    $("files").hidden = false;
  }
}

function wavHeader(pieces, rate) {
  const bytes = 2 * pieces.reduce((total, piece) => total + piece.length, 0);
  const view = new DataView(new ArrayBuffer(44));
  const write = (at, letters) => [...letters].forEach((letter, i) => view.setUint8(at + i, letter.charCodeAt(0)));
  write(0, "RIFF");
  view.setUint32(4, 36 + bytes, true);
  write(8, "WAVEfmt ");
  // Mono, 16-bit PCM.
  [[16, 16, 4], [20, 1, 2], [22, 1, 2], [24, rate, 4], [28, 2 * rate, 4], [32, 2, 2], [34, 16, 2]].forEach(
    ([at, value, size]) => (size === 4 ? view.setUint32(at, value, true) : view.setUint16(at, value, true)),
  );
  write(36, "data");
  view.setUint32(40, bytes, true);
  return view;
}

function report(message) {
  if (message.error) return stop(message.error, true);
  if (message.ready) {
    ready = true;
    if ($("record").checked) startRecording();
    return show(text("live.running"));
  }
  if (message.blocks === undefined) return;
  const ms = (seconds) => Math.round(1000 * seconds);
  const extra = player ? waitSeconds + (context.baseLatency || 0) + (context.outputLatency || 0) : 0;
  $("input_level").value = message.input_db;
  $("output_level").value = message.output_db;
  $("figures").textContent = text("live.figures", {
    pitch: message.f0_hz ? `${Math.round(message.f0_hz)} Hz` : text("live.unvoiced"),
    latency: ms(message.total_seconds ?? message.latency_seconds + message.compute_median_seconds + extra),
    algorithm: ms(message.latency_seconds),
    median: ms(message.compute_median_seconds),
    p99: ms(message.compute_p99_seconds),
    block: ms(message.block_seconds),
    late: message.underruns ?? late,
  });
  show(message.message || text("live.running"), Boolean(message.message));
}

function stop(message, isError = false) {
  const closing = socket;
  socket = null;
  ready = false;
  if (closing) closing.close();
  if (stream) stream.getTracks().forEach((track) => track.stop());
  if ($("record").checked) saveRecording();
  $("record").checked = false;
  if (context) context.close();
  context = stream = player = null;
  lock(false);
  for (const id of ["input_level", "output_level"]) $(id).value = $(id).min;
  $("figures").textContent = "";
  $("start").textContent = text("live.start");
  show(message, isError);
}

function list({ voices, inputs, outputs }) {
  fill($("voice"), voices);
  fill($("input"), inputs);
  fill($("output"), outputs);
  $("source").querySelector("[value=machine]").hidden = !(inputs.length && outputs.length);
}

async function fetchChoices() {
  return (await fetch("choices")).json();
}

async function refresh() {
  const before = $("voice").value;
  list(await fetchChoices());
  if ($("voice").value === before) return;
  if (!before) show(text("live.headphones"));
  await changeVoice();
}

async function load() {
  const choices = await fetchChoices();
  texts = choices.texts;
  document.documentElement.lang = choices.language;
  for (const element of document.querySelectorAll("[data-text]")) element.textContent = text(element.dataset.text);
  build(choices);
  list(choices);
  fill($("preset"), choices.presets);
  $("preset").value = "balanced";
  $("source").onchange = () => {
    $("devices").hidden = $("source").value !== "machine";
    $("recording").hidden = !$("devices").hidden;
  };
  if (!choices.voices.length) show(text("live.no_voices"));
  // Voices and devices come and go.
  for (const id of ["voice", "input", "output"]) $(id).onfocus = refresh;
  new IntersectionObserver(([page]) => page.isIntersecting && refresh()).observe(document.body);
  await describeVoice();
}

load();
