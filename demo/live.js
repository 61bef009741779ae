// Speak and hear yourself converted. The microphone's samples go to the server in blocks, one
// request after the other, so that a slow way only makes the blocks longer; what comes back is
// played through a small buffer.
window.vcLive = (() => {
  const BLOCK_S = 0.05; // sent at once, or more
  const MOST_SENT_S = 1; // what waits longer is left out, or the delay would grow
  const READY_S = 0.12; // kept ready to be played, so that a late answer makes no gap; after a gap,
  const MOST_READY_S = 0.3; // more, up to this
  const SURPLUS_S = 0.23; // what is ready beyond that is left out, or a delay once caught would stay
  const SHOWN_EVERY_MS = 66;
  const TOLD_MS = 4_000; // how long it is said that the server was slow
  let session = null;

  // Runs in the thread that plays: gathers blocks, plays what is ready, silence where nothing is.
  function processor() {
    registerProcessor("vc-live", class extends AudioWorkletProcessor {
      constructor({ processorOptions: sizes }) {
        super();
        this.sizes = sizes;
        this.block = new Float32Array(sizes.block);
        this.filled = 0;
        this.queue = []; // blocks to play
        this.at = 0; // in the first of them
        this.ready = 0; // samples in all
        this.wanted = sizes.ready;
        this.playing = false;
        this.gaps = 0;
        this.peak = 0; // of what was played since the last block
        this.port.onmessage = ({ data }) => {
          this.queue.push(data);
          this.ready += data.length;
          if (this.ready > this.wanted + sizes.surplus) this.take(this.ready - this.wanted);
        };
      }

      take(count, into = null) {
        for (let taken = 0; taken < count;) {
          const first = this.queue[0];
          const part = first.subarray(this.at, this.at + count - taken);
          into?.set(part, taken);
          taken += part.length;
          this.at += part.length;
          if (this.at === first.length) {
            this.queue.shift();
            this.at = 0;
          }
        }
        this.ready -= count;
      }

      process([[heard]], [[played, ...others]]) {
        for (let at = 0; heard && at < heard.length;) {
          const part = heard.subarray(at, at + this.block.length - this.filled);
          this.block.set(part, this.filled);
          this.filled += part.length;
          at += part.length;
          if (this.filled === this.block.length) {
            const { block, peak, gaps, wanted } = this;
            this.port.postMessage({ block: block.slice(), peak, gaps, wanted });
            this.filled = 0;
            this.peak = 0;
          }
        }
        if (this.ready >= this.wanted) this.playing = true;
        if (this.playing) {
          const count = Math.min(this.ready, played.length);
          this.take(count, played);
          if (count < played.length) {
            this.playing = false; // some is gathered before going on
            this.gaps += 1;
            this.wanted = Math.min(1.5 * this.wanted, this.sizes.mostReady);
          }
          this.peak = played.reduce((peak, x) => Math.max(peak, Math.abs(x)), this.peak);
        }
        for (const other of others) other.set(played);
        return true;
      }
    });
  }

  const panel = () => document.querySelector(".vc-live");

  function say(text, state) {
    if (!panel()) return;
    panel().dataset.state = state;
    const status = panel().querySelector("[role=status]");
    if (status.textContent !== text) status.textContent = text; // it is read aloud each time
  }

  // Peaks of the last moment on a scale from -60 dB to full.
  function show(peaks) {
    for (const [role, peak] of Object.entries(peaks)) {
      const level = peak > 0 ? Math.max(0, 1 + Math.log10(peak) / 3) : 0;
      panel()?.querySelector(`meter[data-role=${role}]`)?.setAttribute("value", level);
    }
  }

  // Samples travel as 16-bit numbers.
  const pack = (samples) =>
    Int16Array.from(samples, (x) => Math.round(32767 * Math.max(-1, Math.min(1, x))));
  const unpack = (buffer) => Float32Array.from(new Int16Array(buffer), (x) => x / 32768);

  async function push(ticket, samples) {
    const options = { method: "POST", body: pack(samples) };
    const answer = await fetch(`live/${ticket}`, options).catch(() => null);
    if (!answer) throw new Error("The server does not answer; press Start to try again.");
    if (!answer.ok) throw new Error(await answer.text());
    return unpack(await answer.arrayBuffer());
  }

  const end = (ticket) =>
    fetch(`live/${ticket}`, { method: "DELETE", keepalive: true }).catch(() => {});

  // Ask for the microphone; its sample rate, or 0 if there is none to be had.
  async function hear() {
    stop("");
    if (!navigator.mediaDevices || !window.AudioWorkletNode) {
      fail("The browser gives the microphone only to a page on this computer or over https.");
      return 0;
    }
    const context = new AudioContext({ latencyHint: "interactive" });
    const mine = (session = { context, waiting: [], count: 0, leftOut: 0, sending: false });
    try {
      say("Waiting for the microphone …", "wait");
      mine.microphone = await navigator.mediaDevices.getUserMedia({
        // headphones are worn: what would take the echo away takes words away too
        audio: { echoCancellation: false, noiseSuppression: false, autoGainControl: false },
      });
      mine.microphone.getTracks()[0].onended = () => {
        if (session === mine) fail("The microphone is no longer there.");
      };
      const script = new Blob([`(${processor})()`], { type: "text/javascript" });
      const url = URL.createObjectURL(script);
      await context.audioWorklet.addModule(url);
      URL.revokeObjectURL(url);
      await context.resume();
    } catch {
      if (session === mine) {
        fail("The microphone cannot be used; allow it for this page, and see that one is there.");
      }
    }
    if (session !== mine) { // stopped meanwhile
      release(mine);
      return 0;
    }
    say("Preparing the voice …", "wait");
    return context.sampleRate;
  }

  // Begin with the stream that the server has opened: its ticket and by how many seconds it lags.
  function speak(opened) {
    const mine = session;
    if (!opened) return;
    const [ticket, lag] = opened;
    if (!mine) { // stopped meanwhile
      end(ticket);
      return;
    }
    const { context } = mine;
    const samples = (seconds) => Math.round(seconds * context.sampleRate);
    mine.ticket = ticket;
    mine.node = new AudioWorkletNode(context, "vc-live", {
      numberOfInputs: 1,
      numberOfOutputs: 1,
      channelCount: 1,
      channelCountMode: "explicit",
      processorOptions: {
        block: samples(BLOCK_S),
        ready: samples(READY_S),
        mostReady: samples(MOST_READY_S),
        surplus: samples(SURPLUS_S),
      },
    });
    context.createMediaStreamSource(mine.microphone).connect(mine.node);
    mine.node.connect(context.destination);
    mine.peaks = { heard: 0, played: 0 };
    mine.ready = samples(READY_S);
    mine.node.port.onmessage = ({ data: { block, peak, gaps, wanted } }) => {
      mine.peaks.heard = block.reduce((most, x) => Math.max(most, Math.abs(x)), mine.peaks.heard);
      mine.peaks.played = Math.max(mine.peaks.played, peak);
      mine.ready = wanted;
      if (panel()) panel().dataset.gaps = gaps;
      mine.waiting.push(block);
      mine.count += block.length;
      while (mine.count > samples(MOST_SENT_S)) {
        mine.count -= mine.waiting.shift().length;
        mine.leftOut = Date.now();
      }
      send(mine);
    };
    const others = lag + BLOCK_S + (context.baseLatency || 0) + (context.outputLatency || 0);
    mine.shown = setInterval(() => {
      show(mine.peaks);
      mine.peaks = { heard: 0, played: 0 };
      const all = others + mine.ready / context.sampleRate;
      const live = `You are live; you hear yourself about ${all.toFixed(1)} s later.`;
      const slow = Date.now() - mine.leftOut < TOLD_MS;
      say(slow ? `${live} The server is too slow now; some of it is left out.` : live, "live");
    }, SHOWN_EVERY_MS);
  }

  async function send(mine) {
    if (mine.sending) return; // what is waiting goes with the next block
    mine.sending = true;
    try {
      while (session === mine && mine.count) {
        const block = new Float32Array(mine.count);
        let at = 0;
        for (const part of mine.waiting) {
          block.set(part, at);
          at += part.length;
        }
        mine.waiting = [];
        mine.count = 0;
        const played = await push(mine.ticket, block);
        if (session !== mine) return;
        mine.node.port.postMessage(played, [played.buffer]);
      }
    } catch (error) {
      if (session === mine) fail(error.message);
    } finally {
      mine.sending = false;
    }
  }

  function release(ended) {
    clearInterval(ended.shown);
    for (const track of ended.microphone?.getTracks() ?? []) track.stop();
    ended.context.close().catch(() => {});
    if (ended.ticket) end(ended.ticket);
  }

  function stop(text = "Stopped.") {
    const ended = session;
    session = null;
    if (ended) release(ended);
    show({ heard: 0, played: 0 });
    say(text, "off");
  }

  function fail(text) {
    stop();
    say(text, "bad");
  }

  return { hear, speak, stop };
})();
