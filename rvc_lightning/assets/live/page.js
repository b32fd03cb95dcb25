// The live page: microphone -> WebSocket -> speakers, and controls that act while it runs.

const WAIT_SECONDS = 0.06;
const CONTROLS = [
  { name: "transpose_semitones", label: "Transpose (semitones)", min: -24, max: 24, step: 1, value: 0 },
  { name: "index_rate", label: "Index rate", min: 0, max: 1, step: 0.05, value: 0.75 },
  { name: "protect", label: "Protect", min: 0, max: 0.5, step: 0.05, value: 0.5 },
  { name: "gate_db", label: "Gate (dB), lowest is off", min: -90, max: 0, step: 1, value: -90, off: -90 },
  { name: "input_gain_db", label: "Input gain (dB)", min: -30, max: 30, step: 1, value: 0 },
  { name: "output_gain_db", label: "Output gain (dB)", min: -30, max: 30, step: 1, value: 0 },
];
const $ = (id) => document.getElementById(id);
let socket = null, context = null, stream = null;

function show(text, isError = false) {
  $("status").textContent = text;
  $("status").className = isError ? "error" : "";
}

function send(values) {
  if (socket && socket.readyState === WebSocket.OPEN) socket.send(JSON.stringify(values));
}

function fill(select, names) {
  select.replaceChildren(...names.map((name) => new Option(name.label || name, name.value ?? name)));
}

function build() {
  for (const one of CONTROLS) {
    const label = document.createElement("label");
    const input = Object.assign(document.createElement("input"), {
      type: "range", id: one.name, min: one.min, max: one.max, step: one.step, value: one.value,
    });
    const output = document.createElement("output");
    output.textContent = one.value;
    input.oninput = () => {
      output.textContent = input.value;
      send({ [one.name]: valueOf(one) });
    };
    label.append(one.label, input, output);
    $("controls").append(label);
  }
  for (const name of ["mute", "bypass"]) $(name).onchange = () => send({ [name]: $(name).checked });
  $("speaker").onchange = () => send({ speaker: speaker() });
  $("voice").onchange = () => send({ voice: $("voice").value });
  $("start").onclick = () => (socket ? stop("Stopped.") : start());
}

function valueOf(one) {
  const value = Number($(one.name).value);
  return value === one.off ? null : value;
}

function speaker() {
  const text = $("speaker").value.trim();
  return text === "" ? null : /^\d+$/.test(text) ? Number(text) : text;
}

function options() {
  const values = Object.fromEntries(CONTROLS.map((one) => [one.name, valueOf(one)]));
  return { ...values, speaker: speaker(), mute: $("mute").checked, bypass: $("bypass").checked };
}

async function start() {
  const first = { voice: $("voice").value, preset: $("preset").value, ...options() };
  const onDevices = $("source").value === "machine";
  $("start").textContent = "Stop";
  try {
    if (!onDevices) {
      await openAudio();
      first.sample_rate = context.sampleRate;
    } else {
      first.input = $("input").value;
      first.output = $("output").value;
    }
  } catch (error) {
    stop(`The microphone cannot be used: ${error.message}`, true);
    return;
  }
  show("Loading the voice…");
  const scheme = location.protocol === "https:" ? "wss:" : "ws:";
  socket = new WebSocket(`${scheme}//${location.host}/live/stream`);
  socket.binaryType = "arraybuffer";
  socket.onopen = () => socket.send(JSON.stringify(first));
  socket.onmessage = ({ data }) => (typeof data === "string" ? report(JSON.parse(data)) : play(data));
  socket.onclose = () => socket && stop("The connection has ended.", true);
}

let ready = false, player = null, late = 0;

async function openAudio() {
  const audio = { echoCancellation: false, noiseSuppression: false, autoGainControl: false, channelCount: 1 };
  stream = await navigator.mediaDevices.getUserMedia({ audio });
  context = new AudioContext({ latencyHint: "interactive" });
  await context.audioWorklet.addModule("worklets.js");
  const capture = new AudioWorkletNode(context, "capture", { numberOfOutputs: 0 });
  capture.port.onmessage = ({ data }) => ready && socket.bufferedAmount < 1 << 18 && socket.send(data.buffer);
  context.createMediaStreamSource(stream).connect(capture);
  player = new AudioWorkletNode(context, "playback", { processorOptions: { waitSeconds: WAIT_SECONDS } });
  player.port.onmessage = ({ data }) => (late = data.late);
  player.connect(context.destination);
  window.livePlayer = player;
}

function play(data) {
  if (player) player.port.postMessage(new Int16Array(data));
}

function report(message) {
  if (message.error) return stop(message.error, true);
  if (message.ready) {
    ready = true;
    return show("Live.");
  }
  if (message.blocks === undefined) return;
  const ms = (seconds) => `${Math.round(1000 * seconds)} ms`;
  const extra = player ? WAIT_SECONDS + (context.baseLatency || 0) + (context.outputLatency || 0) : 0;
  const pitch = message.f0_hz ? `${Math.round(message.f0_hz)} Hz` : "unvoiced";
  $("input_level").value = message.input_db;
  $("output_level").value = message.output_db;
  $("figures").textContent =
    `${pitch}; latency ${ms(message.total_seconds ?? message.latency_seconds + message.compute_median + extra)} ` +
    `(algorithm ${ms(message.latency_seconds)}); block median/p99 ${ms(message.compute_median)}/` +
    `${ms(message.compute_p99)} of ${ms(message.block_seconds)}; late ${message.underruns ?? late}`;
  if (message.message) show(message.message, true);
}

function stop(text, isError = false) {
  const closing = socket;
  socket = null;
  ready = false;
  if (closing) closing.close();
  if (stream) stream.getTracks().forEach((track) => track.stop());
  if (context) context.close();
  context = stream = player = null;
  $("start").textContent = "Start";
  show(text, isError);
}

async function load() {
  build();
  const choices = await (await fetch("choices")).json();
  fill($("voice"), choices.voices);
  fill($("preset"), choices.presets);
  $("preset").value = "balanced";
  fill($("input"), choices.inputs);
  fill($("output"), choices.outputs);
  if (!choices.inputs.length) $("source").querySelector("[value=machine]").remove();
  $("source").onchange = () => ($("devices").hidden = $("source").value !== "machine");
  if (!choices.voices.length) show("There are no voices.", true);
}

load();
