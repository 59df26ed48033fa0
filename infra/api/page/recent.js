// The songs last asked for.

import { call } from "./api.js";
import { $, element } from "./dom.js";

const BETWEEN = 5_000; // milliseconds between two looks while a song of the list is on its way
const STATES = { queued: "waiting", error: "failed", cancelled: "cancelled" };

let timer = 0;
let latest = 0; // of two answers under way the later question counts

export async function showRecent() {
  clearTimeout(timer);
  const question = ++latest;
  let jobs;
  try {
    ({ jobs } = await call("/api/jobs?limit=10"));
  } catch {
    if (question === latest) timer = setTimeout(showRecent, 3 * BETWEEN);
    return; // the list stays as it was
  }
  if (question !== latest) return;
  $("recent-list").replaceChildren(...jobs.map(entry));
  $("recent").hidden = !jobs.length;
  markOpen();
  if (jobs.some(({ status }) => status in { queued: 1, processing: 1 })) timer = setTimeout(showRecent, BETWEEN);
}

/** Marks the entry that the page shows. */
export function markOpen() {
  for (const link of $("recent-list").querySelectorAll("a")) {
    if (link.hash === location.hash) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
}

function entry({ jobId, status, pct, title, youtubeUrl, createdAt }) {
  const state = status === "processing" ? `${pct ?? 0} %` : STATES[status];
  const name = element("span", { className: "name", dir: "auto", textContent: title || short(youtubeUrl) });
  const link = element("a", { href: `#job=${encodeURIComponent(jobId)}` }, name);
  if (state) link.append(" ", element("span", { className: "state", textContent: state }));
  if (createdAt) link.append(" ", element("time", { dateTime: createdAt, textContent: ago(createdAt) }));
  link.dataset.status = status;
  return element("li", {}, link);
}

const short = (link) =>
  /^https?:/i.test(link ?? "") ? link.replace(/^https?:\/\/(www\.)?/i, "") : "A recording of your own";

function ago(moment) {
  const seconds = (new Date(moment) - Date.now()) / 1000;
  const units = [["day", 86_400], ["hour", 3_600], ["minute", 60]];
  const [unit, length] = units.find(([, length]) => -seconds >= length) ?? ["second", 0];
  if (!length || Number.isNaN(seconds)) return "just now";
  return new Intl.RelativeTimeFormat("en", { numeric: "auto" }).format(Math.round(seconds / length), unit);
}
