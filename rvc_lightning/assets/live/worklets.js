// Audio threads of the live page: one copies the microphone, one plays what comes back.

class Capture extends AudioWorkletProcessor {
  // Sends 16-bit samples, 20 ms at a time.
  constructor() {
    super();
    this.block = new Int16Array(Math.round(sampleRate / 50));
    this.filled = 0;
  }

  process([input]) {
    for (const sample of input[0] || new Float32Array(128)) {
      this.block[this.filled++] = Math.max(-1, Math.min(1, sample)) * 32767;
      if (this.filled === this.block.length) {
        this.port.postMessage(this.block.slice());
        this.filled = 0;
      }
    }
    return true;
  }
}

class Playback extends AudioWorkletProcessor {
  // A jitter buffer: it waits for some samples, then plays. When none are left it fades out, and waits for more.
  constructor(options) {
    super();
    this.wait = Math.round(options.processorOptions.waitSeconds * sampleRate);
    this.limit = this.wait + sampleRate;
    this.ring = new Float32Array(4 * sampleRate);
    this.read = this.written = 0;
    this.gain = 0;
    this.last = 0;
    this.playing = false;
    this.late = 0;
    this.port.onmessage = ({ data }) => {
      for (const sample of data) this.ring[this.written++ % this.ring.length] = sample / 32767;
      // After a stall: continue with the newest samples.
      if (this.written - this.read > this.limit) this.read = this.written - this.wait;
    };
  }

  process(inputs, [output]) {
    const step = 1 / (0.005 * sampleRate);
    for (let i = 0; i < output[0].length; i++) {
      const waiting = this.written - this.read;
      if (this.playing && waiting === 0) {
        this.playing = false;
        this.late++;
        this.wait = Math.round(Math.min(this.wait * 1.25, sampleRate / 2));
        this.port.postMessage({ late: this.late, waitSeconds: this.wait / sampleRate });
      } else if (!this.playing && waiting >= this.wait) {
        this.playing = true;
      }
      if (this.playing) this.last = this.ring[this.read++ % this.ring.length];
      this.gain = Math.max(0, Math.min(1, this.gain + (this.playing ? step : -step)));
      for (const channel of output) channel[i] = this.gain * this.last;
    }
    return true;
  }
}

registerProcessor("capture", Capture);
registerProcessor("playback", Playback);
