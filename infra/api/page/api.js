// The calls. A refusal carries the server's own sentence; a server that does not answer is asked again.

const PATIENCE = 20_000; // milliseconds until a call counts as unanswered
const FIRST_PAUSE = 1_000; // milliseconds before a server that was away is asked again; doubles each time
const LONGEST_PAUSE = 15_000; // milliseconds

export class Refused extends Error {
  constructor(status, sentence) {
    super(sentence);
    this.status = status;
  }
}

export class Away extends Error {
  constructor(sentence = "The server does not answer.") {
    super(sentence);
  }
}

export const jobPath = (id, part = "") => `/api/jobs/${encodeURIComponent(id)}${part}`;

/** The JSON at `path`. Throws `Refused`, `Away`, or the signal's own reason. */
export async function call(path, { signal, ...options } = {}) {
  const limit = AbortSignal.timeout(PATIENCE);
  let status, text;
  try {
    const response = await fetch(path, { ...options, signal: signal ? AbortSignal.any([signal, limit]) : limit });
    [status, text] = [response.status, await response.text()];
  } catch {
    signal?.throwIfAborted();
    throw new Away();
  }
  return judge(status, text);
}

export const post = (path, body, signal) =>
  call(path, { signal, method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });

/** Sends a form with a file; `sent` hears the share that has left, 0–1 (`fetch` cannot tell that). */
export function upload(path, form, sent) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("POST", path);
    request.upload.addEventListener("progress", (event) => event.lengthComputable && sent(event.loaded / event.total));
    request.addEventListener("error", () => reject(new Away()));
    request.addEventListener("load", () => {
      try {
        resolve(judge(request.status, request.responseText));
      } catch (error) {
        reject(error);
      }
    });
    request.send(form);
  });
}

function judge(status, text) {
  let body = null;
  let readable = true;
  try {
    body = text ? JSON.parse(text) : null;
  } catch {
    readable = false;
  }
  const sentence = [body?.error, body?.detail].find((said) => typeof said === "string");
  if (status >= 500 || status === 408 || status === 429) throw new Away(sentence);
  if (status >= 400) throw new Refused(status, sentence ?? `The server refused this (${status}).`);
  if (!readable) throw new Away();
  return body;
}

/** Asks until the server answers; `away` hears each failure. A refusal is an answer. */
export async function insist(ask, { signal, away }) {
  for (let pause = FIRST_PAUSE; ; pause = Math.min(pause * 2, LONGEST_PAUSE)) {
    try {
      return await ask();
    } catch (error) {
      if (!(error instanceof Away)) throw error;
      away(error);
    }
    await rest(pause, signal);
  }
}

/** Waits, or less when the network or the reader comes back. */
export function rest(milliseconds, signal) {
  return new Promise((resolve, reject) => {
    const done = new AbortController();
    const end = (settle) => {
      clearTimeout(timer);
      done.abort();
      settle();
    };
    const timer = setTimeout(end, milliseconds, resolve);
    const listen = (target, event, then) => target.addEventListener(event, then, { signal: done.signal });
    listen(window, "online", () => end(resolve));
    listen(document, "visibilitychange", () => document.hidden || end(resolve));
    if (signal?.aborted) return end(() => reject(signal.reason));
    if (signal) listen(signal, "abort", () => end(() => reject(signal.reason)));
  });
}

/** An address from the server, if it is one that a browser may follow. */
export function webAddress(text) {
  if (typeof text !== "string" || !text || !URL.canParse(text, location.href)) return null;
  const url = new URL(text, location.href);
  return /^https?:$/.test(url.protocol) ? url.href : null;
}
