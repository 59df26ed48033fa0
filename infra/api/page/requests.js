// Sending a request, and remembering it so that it can be sent again.

import { post, upload } from "./api.js";

const files = new Map(); // job id → the reader's own file, while this page is open

/** Sends `{link | file, preset, language, lyrics}`; gives the new job's id. */
export async function submit(request, sent = () => {}) {
  const { link, file, preset, language, lyrics } = request;
  let jobId;
  if (file) {
    const form = new FormData();
    form.set("preset", preset);
    if (language) form.set("language", language);
    if (lyrics) form.set("lyrics", lyrics);
    form.set("file", file);
    ({ jobId } = await upload("/api/jobs", form, sent));
    files.set(jobId, file);
  } else {
    const options = { ...(language && { language }), ...(lyrics && { lyrics }) };
    ({ jobId } = await post("/api/jobs", { youtubeUrl: link, preset, ...options }));
  }
  remember(jobId, { link, preset, language, lyrics });
  return jobId;
}

export const ownFile = (jobId) => files.get(jobId) ?? null;

/** The request that made a job: its link as the server tells it, the options as this browser remembers them. */
export function requestOf(jobId, youtubeUrl) {
  const { link, ...options } = recalled(jobId) ?? { preset: "regular" };
  const known = youtubeUrl || link;
  const file = known ? undefined : ownFile(jobId);
  return known || file ? { link: known, file, ...options } : null;
}

const key = (jobId) => `request of ${jobId}`;

function remember(jobId, request) {
  try {
    sessionStorage.setItem(key(jobId), JSON.stringify(request));
  } catch {
    // A browser that keeps nothing: "Try again" then asks for the link once more.
  }
}

function recalled(jobId) {
  try {
    return JSON.parse(sessionStorage.getItem(key(jobId)));
  } catch {
    return null;
  }
}
