// A job on its way: asked after once a second, shown, cancelled, tried again.

import { Refused, call, insist, jobPath, rest } from "./api.js";
import { $, element, say } from "./dom.js";
import { requestOf, submit } from "./requests.js";

const BETWEEN = 1_000; // milliseconds between two questions
const BETWEEN_UNSEEN = 5_000; // milliseconds, while the page is in a background tab
const TRYING = "The server does not answer; trying again…";

const [cancelButton, againButton] = [$("job-cancel"), $("job-again")];

/** Shows a job until it ends; gives its last progress. `seen` hears each. */
export async function watch(id, signal, seen) {
  clear();
  cancelButton.onclick = () => cancel(id, signal);
  for (;;) {
    const progress = await insist(() => call(jobPath(id, "/progress"), { signal }), {
      signal,
      away: () => say($("job-away"), TRYING),
    });
    say($("job-away"), "");
    show(progress);
    seen(progress);
    await showSteps(id, signal);
    if (["completed", "error", "cancelled"].includes(progress.status)) return progress;
    await rest(document.hidden ? BETWEEN_UNSEEN : BETWEEN, signal);
  }
}

/** The finished job's result document. */
export async function resultOf(id, address, signal) {
  try {
    return await insist(() => call(address ?? jobPath(id, "/result"), { signal }), {
      signal,
      away: () => say($("job-away"), TRYING),
    });
  } catch (error) {
    if (error instanceof Refused) throw new Refused(410, "The words of this song are no longer kept here.");
    throw error;
  }
}

/** Offers to send an ended job's request again; `opened` hears the new job's id. */
export function offerAgain(id, progress, { opened, ask }) {
  againButton.hidden = false;
  againButton.classList.toggle("quiet", progress?.errorKind === "permanent"); // it would most likely end the same
  againButton.onclick = async () => {
    const request = requestOf(id, progress?.youtubeUrl);
    if (!request) return ask("This page no longer holds your file or link; give it once more.");
    againButton.disabled = true;
    say($("job-away"), "");
    try {
      opened(await submit(request));
    } catch (error) {
      say($("job-away"), error.message);
    } finally {
      againButton.disabled = false;
    }
  };
}

/** The server knows no such job, or holds its result no longer. */
export function showRefused({ status, message }) {
  const gone = status === 404;
  if (gone) say($("job-title"), "No such song");
  say($("job-message"), gone ? "This address leads to no song on this server. It may have been removed." : message);
  $("job").dataset.status = gone ? "unknown" : "error";
  cancelButton.hidden = true;
}

function clear() {
  for (const name of ["title", "pct", "left", "message", "advice", "away", "steps"]) say($(`job-${name}`), "");
  say($("job-title"), "Your song");
  $("job").dataset.status = "";
  $("job-bar").removeAttribute("value");
  cancelButton.hidden = cancelButton.disabled = againButton.disabled = false;
  againButton.hidden = true;
  say(cancelButton, "Cancel");
}

function show({ status, pct, title, statusMessage, currentStage, estimatedTimeRemaining, error, advice }) {
  const running = status === "queued" || status === "processing";
  $("job").dataset.status = status;
  say($("job-title"), title || "Your song");
  if (status === "processing" || pct) $("job-bar").value = pct ?? 0;
  say($("job-pct"), status === "queued" ? "" : `${pct ?? 0} %`);
  say($("job-left"), running ? remaining(estimatedTimeRemaining) : "");
  say($("job-message"), {
    queued: statusMessage || "Waiting for its turn.",
    processing: statusMessage || currentStage || "Working…",
    completed: "Done. Fetching the words…",
    error: error || statusMessage || "This did not work.",
    cancelled: "Cancelled.",
  }[status]);
  say($("job-advice"), status === "error" && advice ? `What can be done: ${advice}.` : "");
  cancelButton.hidden = !running;
}

function remaining(seconds) {
  if (!(seconds > 0)) return "";
  return seconds < 90 ? `about ${Math.ceil(seconds)} s left` : `about ${Math.round(seconds / 60)} min left`;
}

async function showSteps(id, signal) {
  let steps;
  try {
    ({ steps } = await call(jobPath(id, "/steps"), { signal }));
  } catch {
    signal.throwIfAborted();
    return; // the steps are an ornament; the progress call tells whether the server is there
  }
  $("job-steps").replaceChildren(
    ...(steps ?? []).map(({ status, message, duration }) => {
      const took = duration >= 0.1 ? `${duration < 10 ? duration.toFixed(1) : Math.round(duration)} s` : "";
      const item = element("li", { dir: "auto" }, element("span", { textContent: message ?? "" }));
      if (took) item.append(element("span", { className: "took", textContent: took }));
      item.dataset.status = status;
      return item;
    }),
  );
}

async function cancel(id, signal) {
  cancelButton.disabled = true;
  say(cancelButton, "Cancelling…");
  try {
    await call(jobPath(id), { method: "DELETE", signal });
  } catch (error) {
    if (signal.aborted) return;
    say($("job-away"), error instanceof Refused ? error.message : "The server did not hear that; try once more.");
    cancelButton.disabled = false;
    say(cancelButton, "Cancel");
  }
}
