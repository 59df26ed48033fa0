// The form: a link or a file, how well, in which language.

import { $, say } from "./dom.js";
import { submit } from "./requests.js";

const form = $("request");
const [link, file, button, drop] = [$("link"), $("file"), $("submit"), $("drop")];
const LABEL = button.textContent;

/** `opened` hears the id of each job that the form starts. */
export function prepareForm(opened) {
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const id = await send();
    if (id) opened(id);
  });
  link.addEventListener("input", () => {
    complain("");
    if (link.value) forgetFile();
  });
  file.addEventListener("change", showFile);
  $("forget-file").addEventListener("click", () => {
    forgetFile();
    file.focus();
  });
  acceptDrops();
}

/** A sentence beside the field. */
export function complain(sentence) {
  say($("ask-error"), sentence);
  link.toggleAttribute("aria-invalid", Boolean(sentence));
}

async function send() {
  if (button.disabled) return null;
  const request = {
    link: link.value.trim(),
    file: file.files[0],
    preset: form.elements.preset.value,
    language: form.elements.language.value,
    lyrics: form.elements.lyrics.value.trim(),
  };
  if (!request.link && !request.file) {
    complain("Paste a link, or choose a file.");
    link.focus();
    return null;
  }
  complain("");
  button.disabled = true;
  say(button, "Sending…");
  try {
    const id = await submit(request, (share) => say(button, `Sending… ${Math.floor(share * 100)} %`));
    form.reset();
    showFile();
    return id;
  } catch (error) {
    complain(error.message);
    if (!request.file) link.focus();
    return null;
  } finally {
    button.disabled = false;
    say(button, LABEL);
  }
}

function forgetFile() {
  file.value = "";
  showFile();
}

function showFile() {
  const chosen = file.files[0];
  if (chosen) {
    link.value = "";
    complain("");
  }
  say($("file-name"), chosen?.name);
  $("chosen").hidden = !chosen;
  $("file-label").hidden = Boolean(chosen);
}

function acceptDrops() {
  const carriesFile = (event) => !$("ask").hidden && event.dataTransfer?.types.includes("Files");
  addEventListener("dragover", (event) => {
    if (!carriesFile(event)) return;
    event.preventDefault();
    drop.classList.add("over");
  });
  addEventListener("dragleave", (event) => event.relatedTarget || drop.classList.remove("over"));
  addEventListener("drop", (event) => {
    drop.classList.remove("over");
    if (!carriesFile(event)) return;
    event.preventDefault();
    if (!event.dataTransfer.files.length) return;
    file.files = event.dataTransfer.files;
    showFile();
    button.focus();
  });
}
