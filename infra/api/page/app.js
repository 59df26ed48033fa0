// The page: the address says what is shown. `/` asks for a song, `/#job=ID` shows one.

import { Refused, webAddress } from "./api.js";
import { $ } from "./dom.js";
import { complain, prepareForm } from "./form.js";
import { offerAgain, resultOf, showRefused, watch } from "./job.js";
import { markOpen, showRecent } from "./recent.js";
import { showSong } from "./song.js";

let leaving = new AbortController(); // ends everything that the view now shown has under way

const jobInAddress = () => new URLSearchParams(location.hash.slice(1)).get("job");

function open(id) {
  if (id === jobInAddress()) route();
  else location.hash = `job=${encodeURIComponent(id)}`;
}

const again = { opened: open, ask: askAgain }; // what follows on "Try again"

function turnTo(view) {
  for (const name of ["ask", "job", "song"]) $(name).hidden = name !== view;
  $("another").hidden = view === "ask";
  document.body.dataset.view = view;
}

async function route(byReader = true) {
  leaving.abort();
  leaving = new AbortController();
  const { signal } = leaving;
  const id = jobInAddress();
  markOpen();
  scrollTo({ top: 0, behavior: "instant" });
  if (!id) {
    turnTo("ask");
    document.title = "yt-lyrics";
    (byReader ? $("ask-heading") : $("link")).focus();
    return;
  }
  try {
    await showJob(id, signal, byReader);
  } catch (error) {
    if (signal.aborted) return;
    if (!(error instanceof Refused)) throw error;
    showRefused(error);
  }
}

async function showJob(id, signal, byReader) {
  turnTo("job");
  if (byReader) $("job-title").focus();
  let before;
  const progress = await watch(id, signal, ({ status, pct, title }) => {
    document.title = `${status === "processing" ? `${pct ?? 0} % – ` : ""}${title || "Your song"} – yt-lyrics`;
    if (status !== before) showRecent();
    before = status;
  });
  if (progress.status !== "completed") {
    offerAgain(id, progress, again);
    return;
  }
  let song;
  try {
    song = await resultOf(id, webAddress(progress.resultUrl), signal);
  } catch (error) {
    if (error instanceof Refused) offerAgain(id, progress, again); // finished, but its words are gone
    throw error;
  }
  signal.throwIfAborted();
  turnTo("song");
  document.title = `${showSong(id, progress, song, signal)} – yt-lyrics`;
  if (byReader) $("song-title").focus({ preventScroll: true });
}

function askAgain(sentence) {
  history.pushState(null, "", "#");
  route();
  complain(sentence);
}

prepareForm(open);
addEventListener("hashchange", () => route());
showRecent();
route(false);
